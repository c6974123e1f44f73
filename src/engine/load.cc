#include "engine/load.h"

#include <algorithm>
#include <utility>

#include <fmt/core.h>

#include "base/json.h"
#include "device/buffer.h"
#include "device/cpu_isa.h"
#include "device/cuda/gpus.h"
#include "engine/capacity.h"
#include "engine/level_choice.h"
#include "ep/route.h"
#include "model/config_reader.h"
#include "model/model_config.h"
#include "plan/ep_settings_text.h"
#include "weights/checkpoint.h"
#include "weights/checkpoint_digest.h"
#include "weights/read_file.h"

namespace pleiad::engine {
namespace {

constexpr std::size_t kConfigBytesMax = std::size_t{1} << 20U;

Result<Json> read_json(const std::filesystem::path& path) {
  PLEIAD_TRY(text, weights::read_text_file(path, kConfigBytesMax));
  auto parsed = parse_json(text);
  if (!parsed.ok()) return with_context(std::move(parsed).error(), path.string());
  return std::move(*parsed);
}

Result<void> check_settings(const LoadSettings& s) {
  const auto at_least = [](std::string_view flag, std::int64_t value, std::int64_t low
                        ) -> Result<void> {
    if (value >= low) return {};
    return invalid_input("{} must be at least {}, got {}", flag, low, value);
  };
  PLEIAD_TRY(at_least("--threads", s.threads, 0));
  PLEIAD_TRY(at_least("--max-model-len", s.max_model_len, 0));
  PLEIAD_TRY(at_least("--max-model-len-limit", s.max_model_len_limit, 0));
  PLEIAD_TRY(at_least("--max-num-seqs", s.max_num_seqs, 1));
  PLEIAD_TRY(at_least("--max-num-batched-tokens", s.max_num_batched_tokens, s.max_num_seqs));
  PLEIAD_TRY(at_least("--chunked-prefill-size", s.chunked_prefill_size, 1));
  PLEIAD_TRY(at_least("--max-waiting", s.max_waiting, 1));
  if (!(s.mem_fraction_static > 0.0 && s.mem_fraction_static <= 1.0)) {
    return invalid_input("--mem-fraction-static must be in (0, 1], got {}", s.mem_fraction_static);
  }
  return {};
}

model::Compute choose_compute(ComputeChoice choice, const Json& config) {
  if (choice == ComputeChoice::Float32) return model::Compute::Float32;
  if (choice == ComputeChoice::BFloat16) return model::Compute::BFloat16;
  model::ConfigReader reader(config);
  const std::string dtype = reader.text_or("torch_dtype", reader.text_or("dtype", "bfloat16"));
  return dtype == "float32" ? model::Compute::Float32 : model::Compute::BFloat16;
}

// End-of-sequence ids: generation_config.json's when it has any, else config.json's.
Result<std::vector<TokenId>>
eos_tokens(const Json& config, const std::filesystem::path& folder, std::int64_t vocabulary) {
  model::ConfigReader reader(config);
  std::vector<std::int64_t> ids = reader.ids("eos_token_id");
  PLEIAD_TRY(reader.result());
  const auto path = folder / "generation_config.json";
  if (std::filesystem::exists(path)) {
    PLEIAD_TRY(generation, read_json(path));
    model::ConfigReader generation_reader(generation);
    auto better = generation_reader.ids("eos_token_id");
    PLEIAD_TRY(generation_reader.result());
    if (!better.empty()) ids = std::move(better);
  }
  std::vector<TokenId> out;
  for (const std::int64_t id : ids) {
    if (id >= vocabulary) {
      return invalid_input("eos_token_id {} is not below vocab_size {}", id, vocabulary);
    }
    out.push_back(static_cast<TokenId>(id));
  }
  return out;
}

sched::SchedulerOptions scheduler_options(const LoadSettings& s, const Capacity& capacity) {
  return {
      .pages = capacity.pages,
      .running_max = s.max_num_seqs,
      .waiting_max = s.max_waiting,
      .step_tokens_max = s.max_num_batched_tokens,
      .chunk_tokens_max = s.chunked_prefill_size,
      .logit_rows_max = s.max_num_seqs,
      .sequence_tokens_max = capacity.model_tokens,
      .prefix_cache = s.prefix_cache,
  };
}

// What the ranks of a group need to know of the model before any weight is read.
Result<void> check_group(const LoadSettings& s, const model::ModelShape& shape) {
  if (s.gpu && s.layout.ranks() > 1) {
    return unsupported(
        "--device cuda serves one rank; {} ranks need --device cpu", s.layout.ranks()
    );
  }
  PLEIAD_TRY(plan::validate(s.ep));
  auto heads = plan::check_heads(s.layout.tp_size, shape.heads, shape.kv_heads);
  if (!heads.ok()) return with_context(std::move(heads).error(), "--tp-size");
  if (s.layout.tp_size > 1 && s.ep.two_batch_overlap) {
    return unsupported(
        "--enable-two-batch-overlap with --tp-size {}: tensor parts take one batch at a time; use "
        "--tp-size 1, or leave two batches out",
        s.layout.tp_size
    );
  }
  if (s.layout.ranks_per_node() % s.layout.tp_size != 0 && s.kv_cache_bytes == 0) {
    return invalid_input(
        "--tp-size {} spans nodes of {} ranks, whose KV caches must then be equal: give "
        "--kv-cache-bytes on every node, or a --tp-size that divides {}",
        s.layout.tp_size,
        s.layout.ranks_per_node(),
        s.layout.ranks_per_node()
    );
  }
  if (s.layout.ranks() > 1 && shape.moe_layers == 0) {
    return unsupported("--ep-size {}: this model has no experts; use 1", s.layout.ep_size);
  }
  const std::int64_t sums = ep::expert_partial_sums(shape.moe);
  if (sums % s.layout.moe_tp_size != 0) {
    return invalid_input(
        "--moe-tp-size {} must divide the {} partial sums of this model's experts; nearest: {}",
        s.layout.moe_tp_size,
        sums,
        plan::nearest_divisors(sums, s.layout.moe_tp_size)
    );
  }
  if (s.ep.routing == plan::Routing::Hash && !s.force_routing) {
    return unsupported(
        "--routing hash: this checkpoint was trained with a gate and would answer nonsense; use "
        "--routing gate, or --force-routing for experiments"
    );
  }
  return {};
}

Result<std::vector<plan::ExpertPlacement>>
placements_of(const LoadSettings& s, const model::ModelShape& shape) {
  const auto experts = static_cast<std::int32_t>(shape.moe.gate.experts);
  if (s.placements.empty()) {
    return std::vector<plan::ExpertPlacement>(
        static_cast<std::size_t>(shape.moe_layers),
        plan::ExpertPlacement::contiguous(std::max(experts, 1), s.layout.ep_size)
    );
  }
  if (static_cast<std::int64_t>(s.placements.size()) != shape.moe_layers) {
    return invalid_input(
        "placements of {} layers, the model has {} with experts",
        s.placements.size(),
        shape.moe_layers
    );
  }
  for (const plan::ExpertPlacement& placement : s.placements) {
    if (placement.ranks() != s.layout.ep_size || placement.experts() != experts) {
      return invalid_input(
          "a placement of {} experts over {} ranks, the model has {} over {}",
          placement.experts(),
          placement.ranks(),
          experts,
          s.layout.ep_size
      );
    }
  }
  return s.placements;
}

// Whether some rank of this process computes a shard of an expert.
bool held_here(
    const plan::ParallelLayout& layout,
    const plan::ExpertPlacement& placement,
    std::int32_t expert,
    std::int32_t shard
) {
  const plan::RankRange here = layout.ranks_of_node(layout.node_rank);
  return std::ranges::any_of(placement.holders(expert), [&](std::int32_t holder) {
    const std::int32_t rank = layout.rank_of(holder, shard);
    return rank >= here.first && rank < here.first + here.count;
  });
}

// Whether some rank of this process is that tensor part.
bool part_held_here(const plan::ParallelLayout& layout, std::int32_t part) {
  const plan::RankRange here = layout.ranks_of_node(layout.node_rank);
  for (std::int32_t rank = here.first; rank < here.first + here.count; ++rank) {
    if (layout.place(rank).tp_rank == part) return true;
  }
  return false;
}

ep::MoePlace place_of(
    const LoadSettings& s,
    std::int32_t rank,
    std::span<const plan::ExpertPlacement> placements,
    std::int64_t topk,
    ep::EpStats* stats
) {
  ep::MoePlace place{.rank = {}, .placements = placements};
  place.rank = {
      .ranks = s.layout.ranks(),
      .rank = rank,
      .moe_tp = s.layout.moe_tp_size,
      .settings = s.ep,
      .stats = stats,
  };
  for (const plan::ExpertPlacement& placement : placements) {
    place.rank.nodes_per_row_max =
        std::max(place.rank.nodes_per_row_max, ep::nodes_per_row_max(placement, topk));
  }
  return place;
}

// One model rank with its pool, for each rank of this process.
Result<void>
make_ranks(const LoadSettings& s, int threads, std::int64_t longest, LoadedModel& out) {
  const plan::RankRange here = s.layout.ranks_of_node(s.layout.node_rank);
  const model::ModelShape& shape = out.weights->shape();
  for (std::int32_t i = 0; i < here.count; ++i) {
    EngineParts& parts = out.ranks.emplace_back();
    parts.rank = here.first + i;
    parts.ranks = s.layout.ranks();
    const std::int32_t tp_rank = s.layout.place(parts.rank).tp_rank;
    parts.tensor = {.parts = s.layout.tp_size, .part = tp_rank, .first_rank = parts.rank - tp_rank};
    parts.model_name = s.model_name;
    parts.stats = std::make_unique<ep::EpStats>();
    parts.pool = std::make_unique<device::ThreadPool>(std::max(1, threads / here.count));
    PLEIAD_TRY(
        model,
        out.weights->make_rank({
            .context = {.pool = parts.pool.get(), .isa = out.isa, .compute = out.compute},
            .limits =
                {
                    .rows_max = s.max_num_batched_tokens,
                    .logit_rows_max = s.max_num_seqs,
                    .context_max = longest,
                },
            .tensor = parts.tensor,
            .place =
                place_of(s, parts.rank, out.placements, shape.moe.gate.topk, parts.stats.get()),
        })
    );
    const model::ScratchBytes scratch = model->scratch();
    out.scratch.planned += scratch.planned;
    out.scratch.naive += scratch.naive;
    parts.model = std::move(model);
  }
  return {};
}

Result<void> make_shared_cache(const kv::CacheShape& shape, EngineParts& parts) {
  const std::int64_t pages = parts.limits.pages;
  const std::size_t bytes = shape.page_bytes_all_layers() * static_cast<std::size_t>(pages);
  PLEIAD_TRY(memory, kv::SharedMemory::allocate(bytes));
  parts.shared_cache = memory->name();
  parts.cache = kv::PagedCache::elsewhere(shape, pages, std::move(memory));
  return {};
}

// What is left of memory becomes the ranks' KV caches.
Result<void> make_caches(
    const LoadSettings& s,
    std::size_t memory_bytes,
    std::int64_t positions_max,
    LoadedModel& out
) {
  const model::ModelShape& shape = out.weights->shape();
  const std::size_t count = out.ranks.size();
  const std::int64_t logits_bytes = s.max_num_seqs * shape.vocabulary * 4;
  const std::size_t resident = out.weight_bytes + out.scratch.planned;
  PLEIAD_TRY(
      capacity,
      plan_capacity({
          .memory_bytes = memory_bytes / count,
          .memory_fraction = s.mem_fraction_static,
          .kv_bytes = s.kv_cache_bytes / count,
          .resident_bytes = resident / count + static_cast<std::size_t>(logits_bytes),
          .page_bytes = shape.cache.page_bytes_all_layers(),
          .model_tokens = s.max_model_len,
          .positions_max = positions_max,
          .sequences_max = s.max_num_seqs,
      })
  );
  for (EngineParts& parts : out.ranks) {
    parts.limits = scheduler_options(s, capacity);
    if (s.share_caches) {
      PLEIAD_TRY(make_shared_cache(shape.cache, parts));
    } else {
      PLEIAD_TRY(cache, out.weights->make_cache(capacity.pages));
      parts.cache = std::move(cache);
    }
  }
  return {};
}

}  // namespace

// Products of BF16 pairs round in their own way; every other instruction set gives the same bits.
std::string arithmetic_of(const LoadedModel& model) {
  if (model.compute == model::Compute::Float32) return "float32";
  const bool pairs = model.isa == device::CpuIsa::Avx512Bf16;
  return pairs ? "bfloat16 (avx512_bf16)" : "bfloat16";
}

std::string agreement_of(const LoadSettings& s, const LoadedModel& model) {
  // Tensor parts share page numbers.
  const bool spanning = s.layout.ranks_per_node() % s.layout.tp_size != 0;
  return fmt::format(
      "dp_size {}, tp_size {}, ep_size {}, moe_tp_size {}, ep_level {}, cut-off {} {}, buffers {}, "
      "two batches {} from {}, routing {}, step tokens {}, sequences {}, context {}, {}compute {}",
      s.layout.dp_size,
      s.layout.tp_size,
      s.layout.ep_size,
      s.layout.moe_tp_size,
      plan::to_string(s.ep.level),
      s.ep.enable_init_routing_cutoff,
      s.ep.topk_scaling_factor,
      plan::buffer_scales_text(s.ep.alltoall_ep_buffer_scale_factors),
      s.ep.two_batch_overlap,
      s.ep.two_batch_tokens_min,
      plan::to_string(s.ep.routing),
      s.max_num_batched_tokens,
      s.max_num_seqs,
      model.ranks.front().limits.sequence_tokens_max,
      spanning ? fmt::format("pages {}, ", model.ranks.front().limits.pages) : "",
      arithmetic_of(model)
  );
}

Result<LoadedModel> load_model(const LoadSettings& settings, const Clock& clock) {
  const Nanoseconds begin = clock.now();
  PLEIAD_TRY(check_settings(settings));
  PLEIAD_TRY(config, model::read_model_config(settings.model));
  PLEIAD_TRY(architecture, model::find_architecture(config));
  LoadedModel out;
  out.architecture = architecture->name;
  out.compute = choose_compute(settings.dtype, config);
  out.isa = settings.isa.value_or(device::detect_cpu_isa());
  PLEIAD_TRY(whole, architecture->shape(config, out.compute));
  PLEIAD_TRY(check_group(settings, whole));
  PLEIAD_TRY(shape, architecture->shape(config, out.compute, settings.layout.tp_size));
  PLEIAD_TRY(eos, eos_tokens(config, settings.model, shape.vocabulary));
  PLEIAD_TRY(placements, placements_of(settings, shape));
  out.placements = std::move(placements);
  PLEIAD_TRY(
      checkpoint,
      settings.dummy_weights ? architecture->make_dummy(config, out.compute)
                             : weights::Checkpoint::open(settings.model)
  );
  const Nanoseconds opened = clock.now();

  const int threads = settings.threads > 0 ? settings.threads : device::available_processors();
  std::size_t memory_bytes = device::memory_available_bytes();
  if (settings.gpu) {
    PLEIAD_TRY(gpu, device::cuda::find_gpu(*settings.gpu));
    out.gpu = gpu.name;
    memory_bytes = gpu.free_bytes;
  }
  device::ThreadPool pool(threads);
  const auto weight_bytes_max =
      static_cast<std::size_t>(static_cast<double>(memory_bytes) * settings.mem_fraction_static);
  PLEIAD_TRY(
      weights,
      architecture->load(
          config,
          *checkpoint,
          {
              .pool = &pool,
              .compute = out.compute,
              .gpu = settings.gpu,
              .moe_tp = settings.layout.moe_tp_size,
              .holds =
                  [&](std::int64_t layer, std::int32_t expert, std::int32_t shard) {
                    const auto at = static_cast<std::size_t>(layer);
                    return held_here(settings.layout, out.placements[at], expert, shard);
                  },
              .tensor_parts = settings.layout.tp_size,
              .holds_part = [&](std::int32_t part
                            ) { return part_held_here(settings.layout, part); },
              .weight_bytes_max = weight_bytes_max,
              .progress = settings.progress,
          }
      )
  );
  out.weights = std::move(weights);
  out.weight_bytes = out.weights->bytes();
  out.phases = out.weights->phases();
  // Samples lie all over the files: only now, so that a broken folder is told of without them.
  PLEIAD_TRY(digest, weights::checkpoint_digest(settings.model, *checkpoint));
  out.digest = digest;
  std::int64_t positions = shape.positions_max;
  if (settings.max_model_len_limit > 0) {
    positions = std::min(positions, settings.max_model_len_limit);
  }
  const std::int64_t longest = settings.max_model_len > 0 ? settings.max_model_len : positions;
  const Nanoseconds packed = clock.now();
  PLEIAD_TRY(make_ranks(settings, threads, longest, out));
  const Nanoseconds prepared = clock.now();
  PLEIAD_TRY(make_caches(settings, memory_bytes, positions, out));
  const Nanoseconds cached = clock.now();
  for (EngineParts& parts : out.ranks) {
    PLEIAD_TRY(parts.model->record(parts.cache));
  }
  for (EngineParts& parts : out.ranks) {
    parts.eos_tokens = eos;
  }
  out.lockstep.settings = settings.ep;
  out.lockstep.tensor_parts = settings.layout.tp_size;
  if (settings.layout.ranks() > 1) {
    const std::int64_t rows_max = settings.max_num_batched_tokens;
    PLEIAD_TRY(
        rows_min, all_to_all_rows_min(shape, settings.layout, settings.ep, out.compute, rows_max)
    );
    out.lockstep.all_to_all_rows_min = rows_min;
  }
  out.positions_max = shape.positions_max;
  out.read_seconds = to_seconds(opened - begin);
  out.pack_seconds = to_seconds(packed - opened);
  out.prepare_seconds = to_seconds(prepared - packed);
  out.cache_seconds = to_seconds(cached - prepared);
  out.record_seconds = to_seconds(clock.now() - cached);
  return out;
}

}  // namespace pleiad::engine
