#include "tests/model/tensor_harness.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <thread>

#include "base/check.h"
#include "comm/local_group.h"
#include "ep/route.h"
#include "model/model.h"
#include "tests/model/tiny_configs.h"
#include "weights/checkpoint.h"

namespace pleiad::model {
namespace {

// One of the ranks, with the cache of one sequence.
struct Rank {
  device::ThreadPool pool{1};
  std::unique_ptr<Model> model;
  kv::PagedCache cache;
  ep::EpStats stats;
};

// Experts in id order over as many ranks as parts.
std::vector<plan::ExpertPlacement> placements_of(const ModelShape& shape, std::int32_t ranks) {
  const auto experts = static_cast<std::int32_t>(std::max<std::int64_t>(shape.moe.gate.experts, 1));
  return std::vector<plan::ExpertPlacement>(
      static_cast<std::size_t>(shape.moe_layers), plan::ExpertPlacement::contiguous(experts, ranks)
  );
}

ep::MoePlace place_of(
    std::int32_t rank,
    std::int32_t ranks,
    std::span<const plan::ExpertPlacement> placements,
    const ModelShape& shape,
    ep::EpStats* stats
) {
  ep::MoePlace place{
      .rank = {.ranks = ranks, .rank = rank, .stats = stats}, .placements = placements};
  for (const plan::ExpertPlacement& placement : placements) {
    place.rank.nodes_per_row_max = std::max(
        place.rank.nodes_per_row_max, ep::nodes_per_row_max(placement, shape.moe.gate.topk)
    );
  }
  return place;
}

// Runs tokens [first, first + tokens.size()) on one rank; logits only where `logits` has room.
void step(
    Rank& rank,
    std::span<const TokenId> tokens,
    std::int64_t first,
    std::span<float> logits,
    const ep::GroupStep& group
) {
  std::vector<std::int64_t> positions(tokens.size());
  std::iota(positions.begin(), positions.end(), first);
  std::vector<std::uint32_t> table(static_cast<std::size_t>(rank.cache.pages()));
  std::iota(table.rbegin(), table.rend(), 0U);
  std::vector<AttentionRow> rows;
  for (const std::int64_t position : positions) {
    rows.push_back({.page_table = table.data(), .position = position});
  }
  std::vector<std::int32_t> logit_rows(tokens.size());
  std::iota(logit_rows.begin(), logit_rows.end(), 0);
  const auto done = rank.model->forward(
      {.tokens = tokens,
       .positions = positions,
       .rows = rows,
       .logit_rows = logit_rows,
       .logits = logits,
       .group = &group},
      rank.cache
  );
  PLEIAD_CHECK(done.ok(), done.ok() ? "" : done.error().message);
}

}  // namespace

std::vector<float> logits_of_tensor_parts(
    const std::filesystem::path& folder,
    std::span<const TokenId> tokens,
    const TensorHarnessOptions& options
) {
  const std::int32_t parts = options.parts;
  const Json config = reference::read_json(folder / "config.json");
  const auto checkpoint = weights::Checkpoint::open(folder).value();
  device::ThreadPool pool(1);
  const auto weights = find_architecture(config)
                           .value()
                           ->load(
                               config,
                               *checkpoint,
                               {.pool = &pool, .compute = options.compute, .tensor_parts = parts}
                           )
                           .value();
  const ModelShape& shape = weights->shape();
  const auto placements = placements_of(shape, parts);
  const auto vocabulary = static_cast<std::size_t>(shape.vocabulary);
  std::vector<float> logits(tokens.size() * vocabulary, std::nanf(""));
  auto groups = comm::make_local_group(parts, {});
  const auto play = [&](std::int32_t part) {
    Rank rank;
    const auto rows_max = static_cast<std::int64_t>(options.chunk);
    const auto context_max = static_cast<std::int64_t>(tokens.size());
    rank.model =
        weights
            ->make_rank({
                .context =
                    {.pool = &rank.pool,
                     .isa = device::detect_cpu_isa(),
                     .compute = options.compute},
                .limits =
                    {.rows_max = rows_max, .logit_rows_max = rows_max, .context_max = context_max},
                .tensor = {.parts = parts, .part = part},
                .place = place_of(part, parts, placements, shape, &rank.stats),
            })
            .value();
    const std::int64_t pages = context_max / kPageTokens + 1;
    rank.cache = kv::PagedCache::allocate(rank.model->shape().cache, pages).value();
    for (std::size_t begin = 0; begin < tokens.size(); begin += options.chunk) {
      const auto chunk = tokens.subspan(begin, std::min(options.chunk, tokens.size() - begin));
      std::vector<std::int32_t> rows;
      for (std::int32_t peer = 0; peer < parts; ++peer) {
        const auto own = part_of(static_cast<std::int64_t>(chunk.size()), parts, peer);
        rows.push_back(static_cast<std::int32_t>(own.count));
      }
      const ep::GroupStep group{
          .group = groups[static_cast<std::size_t>(part)].get(),
          .rows = rows,
          .level = plan::EpLevel::AllGather};
      const auto room = std::span(logits).subspan(begin * vocabulary, chunk.size() * vocabulary);
      const bool leads = part == 0;
      step(rank, chunk, static_cast<std::int64_t>(begin), leads ? room : std::span<float>{}, group);
    }
    // Peers may still be reading this rank's buffers.
    PLEIAD_CHECK(groups[static_cast<std::size_t>(part)]->barrier("the end").ok());
  };
  std::vector<std::thread> threads;
  for (std::int32_t part = 0; part < parts; ++part) {
    threads.emplace_back([&play, part] { play(part); });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  return logits;
}

}  // namespace pleiad::model
