// Also tests: expert_serving.cc
#include "ep/expert_exchange.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"
#include "comm/local_group.h"
#include "device/thread_pool.h"
#include "ep/moe_layer.h"
#include "ep/route.h"
#include "ep/row_message.h"
#include "tests/ep/moe_fixture.h"
#include "tests/ep/placement_fixture.h"

namespace pleiad::ep {
namespace {

using ::testing::HasSubstr;
using testing::Layer;
using testing::Matrix;
using testing::random_matrix;
using testing::random_placement;

struct Setting {
  std::int32_t ranks = 2;
  std::int32_t moe_tp = 1;
  plan::EpLevel level = plan::EpLevel::AllToAll;
  bool two_batches = false;
  double buffers = 8.0;  // factor of the receive buffers
  double cutoff = 1.0;   // of the routing cut-off
};

// What one rank computes in a group.
struct RankResult {
  Result<void> result;
  Matrix residual;
};

// One layer over a group of threads: rank r brings rows first[r] .. first[r + 1] of x.
class GroupRun {
 public:
  GroupRun(
      const Layer& layer,
      const Setting& setting,
      kernels::Compute compute,
      std::int64_t rows_max
  )
      : layer_(layer), setting_(setting), compute_(compute), rows_max_(rows_max) {}

  std::vector<RankResult>
  run(const plan::ExpertPlacement& placement, const Matrix& x, std::span<const std::int32_t> first
  ) {
    std::vector<std::int32_t> rows;
    for (std::size_t r = 0; r + 1 < first.size(); ++r)
      rows.push_back(first[r + 1] - first[r]);
    auto groups = comm::make_local_group(setting_.ranks, {});
    std::vector<RankResult> results(groups.size());
    std::vector<std::thread> threads;
    for (std::size_t r = 0; r < groups.size(); ++r) {
      threads.emplace_back([&, r] {
        const auto hidden = static_cast<std::size_t>(layer_.shape.hidden);
        const auto begin = static_cast<std::size_t>(first[r]) * hidden;
        results[r] = run_rank(
            *groups[r],
            placement,
            std::span(x).subspan(begin, static_cast<std::size_t>(rows[r]) * hidden),
            rows
        );
      });
    }
    for (std::thread& thread : threads)
      thread.join();
    return results;
  }

  // Rank 0 of two alone, beside a peer that does what it likes; both bring `rows`.
  Result<void> run_beside(
      const plan::ExpertPlacement& placement,
      const Matrix& x,
      std::span<const std::int32_t> rows,
      const std::function<void(comm::Group&)>& peer
  ) {
    auto groups = comm::make_local_group(2, {});
    std::thread other([&] { peer(*groups[1]); });
    const RankResult out = run_rank(*groups[0], placement, x, rows);
    groups[0]->abort(unavailable("the test is over"));
    other.join();
    return out.result;
  }

  std::vector<EpStats>& stats() { return stats_; }

 private:
  RankResult run_rank(
      comm::Group& group,
      const plan::ExpertPlacement& placement,
      std::span<const float> x,
      std::span<const std::int32_t> rows
  ) {
    const auto rank = static_cast<std::size_t>(group.rank());
    RankPlace place{
        .ranks = group.size(),
        .rank = group.rank(),
        .moe_tp = setting_.moe_tp,
        .nodes_per_row_max = nodes_per_row_max(placement, layer_.shape.gate.topk),
        .stats = &stats_[rank],
    };
    place.settings.level = setting_.level;
    place.settings.two_batch_overlap = setting_.two_batches;
    place.settings.alltoall_ep_buffer_scale_factors = {{0, setting_.buffers}};
    place.settings.enable_init_routing_cutoff = setting_.cutoff < 1.0;
    place.settings.topk_scaling_factor = setting_.cutoff;
    device::ThreadPool pool(1);
    const kernels::Context context{
        .pool = &pool, .isa = device::detect_cpu_isa(), .compute = compute_};
    device::ArenaPlan plan;
    const std::int64_t batch_rows = setting_.two_batches ? (rows_max_ + 1) / 2 : rows_max_;
    MoeRunner runner(
        layer_.shape,
        {.rank = place, .placements = {&placement, 1}},
        {.rows_max = batch_rows, .compute = compute_},
        plan,
        0,
        1
    );
    auto memory = device::Scratch::allocate(std::move(plan)).value();
    const GroupStep step{
        .group = &group,
        .rows = rows,
        .level = setting_.level,
        .two_batches = setting_.two_batches};
    RankResult out{.result = {}, .residual = Matrix(x.size(), 0.5F)};
    out.result = run_layer(runner, context, memory, step, x, out.residual);
    return out;
  }

  Result<void> run_layer(
      MoeRunner& runner,
      const kernels::Context& context,
      device::Scratch& memory,
      const GroupStep& step,
      std::span<const float> x,
      Matrix& residual
  ) {
    const std::int64_t mine = step.rows[static_cast<std::size_t>(step.group->rank())];
    const int batches = step.two_batches ? 2 : 1;
    std::int64_t row = 0;
    for (int batch = 0; batch < batches; ++batch) {
      const std::int64_t rows = rows_of_batch(step, mine, batch);
      PLEIAD_TRY(runner.begin(
          context,
          memory,
          step,
          batch,
          {.weights = &layer_.sharded,
           .x = x.data() + row * layer_.shape.hidden,
           .rows = rows,
           .residual = residual.data() + row * layer_.shape.hidden}
      ));
      row += rows;
    }
    for (int batch = 0; batch < batches; ++batch)
      PLEIAD_TRY(runner.serve(context, memory, batch));
    for (int batch = 0; batch < batches; ++batch)
      PLEIAD_TRY(runner.finish(context, memory, batch));
    // Peers may still be reading the scratch, which goes when this rank returns.
    return step.group->wait_sends("the end");
  }

  const Layer& layer_;
  Setting setting_;
  kernels::Compute compute_;
  std::int64_t rows_max_;
  std::vector<EpStats> stats_{16};
};

// The same rows on one rank that holds everything.
Matrix run_alone(const Layer& layer, kernels::Compute compute, const Matrix& x) {
  if (x.empty()) return {};
  const auto rows = static_cast<std::int64_t>(x.size()) / layer.shape.hidden;
  device::ThreadPool pool(1);
  const kernels::Context context{
      .pool = &pool, .isa = device::detect_cpu_isa(), .compute = compute};
  device::ArenaPlan plan;
  MoeRunner runner(layer.shape, {}, {.rows_max = rows, .compute = compute}, plan, 0, 1);
  auto memory = device::Scratch::allocate(std::move(plan)).value();
  Matrix residual(x.size(), 0.5F);
  runner.run(
      context,
      memory,
      {.weights = &layer.packed, .x = x.data(), .rows = rows, .residual = residual.data()}
  );
  return residual;
}

Matrix rounded(Matrix values, kernels::Compute compute) {
  for (float& value : values)
    value = kernels::round_activation(value, compute);
  return values;
}

TEST(ExpertExchange, GivesTheBitsOfOneRankForEveryPlacementLevelAndBuffer) {
  constexpr std::uint64_t kSeed = 20240607;
  SCOPED_TRACE("seed " + std::to_string(kSeed));
  Random random(kSeed);
  for (int round = 0; round < 60; ++round) {
    const auto compute =
        random.below(2) == 0 ? kernels::Compute::Float32 : kernels::Compute::BFloat16;
    const MoeShape shape{
        .hidden = 16 + static_cast<std::int64_t>(random.below(40)),
        .intermediate = random.below(2) == 0 ? 16 : 40,
        .shared_intermediate = random.below(2) == 0 ? 0 : 20,
        .gate =
            {.experts = 5 + static_cast<std::int64_t>(random.below(20)), .topk = 4, .scale = 1.5F},
    };
    const auto moe_tp = std::int32_t{1} << random.below(3);
    const auto ep_ranks = static_cast<std::int32_t>(1 + random.below(moe_tp > 1 ? 3 : 8));
    const Layer layer(shape, random, compute, moe_tp);
    constexpr std::int64_t kRowsMax = 24;
    const Setting setting{
        .ranks = ep_ranks * moe_tp,
        .moe_tp = moe_tp,
        .level = random.below(2) == 0 ? plan::EpLevel::AllGather : plan::EpLevel::AllToAll,
        .two_batches = random.below(3) == 0,
        .buffers = random.below(2) == 0 ? 8.0 : 0.05,
        .cutoff = random.below(2) == 0 ? 1.0 : 0.1,
    };
    std::vector<std::int32_t> first = {0};
    for (std::int32_t rank = 0; rank < setting.ranks; ++rank) {
      const auto rows = random.below(3) == 0 ? 0 : random.below(kRowsMax + 1);
      first.push_back(first.back() + static_cast<std::int32_t>(rows));
    }
    const Matrix x = rounded(random_matrix(random, first.back() * shape.hidden, 1), compute);
    const auto placement =
        random_placement(random, static_cast<std::int32_t>(shape.gate.experts), ep_ranks);

    const Matrix expected = run_alone(layer, compute, x);
    GroupRun run(layer, setting, compute, kRowsMax);
    const auto results = run.run(placement, x, first);
    for (std::size_t r = 0; r < results.size(); ++r) {
      ASSERT_TRUE(results[r].result.ok()) << results[r].result.error().message;
      if (results[r].residual.empty()) continue;
      const auto begin = static_cast<std::size_t>(first[r] * shape.hidden);
      ASSERT_EQ(
          std::memcmp(
              results[r].residual.data(),
              expected.data() + begin,
              results[r].residual.size() * sizeof(float)
          ),
          0
      ) << "round "
        << round << " rank " << r << " of " << setting.ranks;
    }
  }
}

TEST(ExpertExchange, SmallBuffersCostRoundsAndPassesThatAreCounted) {
  Random random(8);
  const MoeShape shape{.hidden = 16, .intermediate = 8, .gate = {.experts = 8, .topk = 4}};
  const Layer layer(shape, random);
  const Setting setting{.ranks = 2, .buffers = 0.01, .cutoff = 1.0};
  GroupRun run(layer, setting, kernels::Compute::Float32, 40);
  const std::vector<std::int32_t> first = {0, 40, 80};
  const Matrix x = random_matrix(random, 80 * shape.hidden, 1);

  const auto results = run.run(plan::ExpertPlacement::contiguous(8, 2), x, first);

  ASSERT_TRUE(results[0].result.ok());
  EXPECT_GT(run.stats()[0].extra_rounds.load(), 0U);
  EXPECT_EQ(run.stats()[0].assignments.load() + run.stats()[1].assignments.load(), 80U * 4U);
}

// A rank whose peer does not keep to the rules: eight experts over two ranks, two choices each.
class ExpertExchangeWith : public ::testing::Test {
 protected:
  static constexpr std::int64_t kHidden = 16;
  static constexpr RowFormat kFormat{.hidden = kHidden, .topk = 2, .dtype = device::DType::F32};

  // The words of rank 0 when rank 1 sends `message` as its dispatch of `rows` rows.
  std::string refusal_of(std::vector<float>& message, std::int32_t rows = 2) {
    const auto result = exchange(0, rows, [&](comm::Group& group) {
      group.send(0, std::as_bytes(std::span(message)));
      static_cast<void>(group.wait_sends("lying").ok());
    });
    if (result.ok()) return "accepted";
    EXPECT_EQ(result.error().kind, ErrorKind::Corrupt);
    return result.error().message;
  }

  Result<void>
  exchange(std::int32_t mine, std::int32_t others, const std::function<void(comm::Group&)>& peer) {
    Random random(11);
    const MoeShape shape{.hidden = kHidden, .intermediate = 8, .gate = {.experts = 8, .topk = 2}};
    const Layer layer(shape, random);
    const Matrix x = random_matrix(random, mine * kHidden, 1);
    GroupRun run(layer, {}, kernels::Compute::Float32, 4);
    const std::vector<std::int32_t> rows = {mine, others};
    return run.run_beside(plan::ExpertPlacement::contiguous(8, 2), x, rows, peer);
  }

  // Two rows for experts 1 and 2, both on rank 0.
  static std::vector<float> good_message() {
    std::vector<float> words(dispatch_bytes(kFormat, 2) / sizeof(float));
    const auto parts =
        begin_dispatch(kFormat, {.rows = 2, .rounds = 1}, std::as_writable_bytes(std::span(words)));
    for (std::size_t i = 0; i < 4; ++i) {
      parts.routes[i] = {static_cast<std::uint16_t>(1 + i % 2), 0};
    }
    return words;
  }
};

TEST_F(ExpertExchangeWith, APeerThatCutsItsDispatchIsNamed) {
  auto message = good_message();
  message.pop_back();
  EXPECT_THAT(refusal_of(message), HasSubstr("from rank 1: a dispatch message of 2 rows has"));
  message.resize(1);
  EXPECT_THAT(refusal_of(message), HasSubstr("from rank 1"));
}

TEST_F(ExpertExchangeWith, APeerThatSendsMoreRowsOrRoundsThanAgreedIsNamed) {
  auto message = good_message();
  reinterpret_cast<DispatchHead*>(message.data())->rows = 5;
  EXPECT_THAT(refusal_of(message), HasSubstr("from rank 1: a dispatch message says 5 rows"));
  message = good_message();
  reinterpret_cast<DispatchHead*>(message.data())->rounds = 2;
  EXPECT_THAT(refusal_of(message), HasSubstr("from rank 1: a dispatch message says 2 rounds"));
}

TEST_F(ExpertExchangeWith, APeerThatAsksForAnExpertThatIsNotHereIsNamed) {
  for (const Route& route : {Route{6, 0}, Route{1, 1}, Route{8, 0}, Route{2, 9}}) {
    auto message = good_message();
    reinterpret_cast<Route*>(message.data() + 2)[1] = route;
    EXPECT_THAT(refusal_of(message), HasSubstr("from rank 1: a dispatch message names experts"));
  }
}

TEST_F(ExpertExchangeWith, APeerThatSendsMoreThanAnyMessageHasIsNamed) {
  std::vector<float> message(100'000);
  EXPECT_THAT(refusal_of(message), HasSubstr("rank 1"));
}

TEST_F(ExpertExchangeWith, APeerThatSendsResultsOfAWrongSizeIsNamed) {
  for (const std::size_t lines : {0U, 1U, 3U}) {
    std::vector<float> results(lines * kHidden + 1);
    const auto result = exchange(4, 0, [&](comm::Group& group) {
      std::vector<std::byte> dispatch(dispatch_bytes(kFormat, 4) + 64);
      if (!group.receive(0, dispatch, "lying").ok()) return;
      group.send(0, std::as_bytes(std::span(results)));
      static_cast<void>(group.wait_sends("lying").ok());
    });
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.error().kind, ErrorKind::Corrupt);
    EXPECT_THAT(result.error().message, HasSubstr("rank 1 sent"));
    EXPECT_THAT(result.error().message, HasSubstr("bytes of results"));
  }
}

TEST_F(ExpertExchangeWith, APeerThatLeavesIsNamed) {
  const auto result = exchange(0, 2, [](comm::Group& group) {
    group.abort(unavailable("rank 1 is shutting down"));
  });

  ASSERT_FALSE(result.ok());
  EXPECT_THAT(result.error().message, HasSubstr("rank 1"));
}

}  // namespace
}  // namespace pleiad::ep
