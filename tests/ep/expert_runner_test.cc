#include "ep/expert_runner.h"

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/random.h"
#include "device/thread_pool.h"
#include "tests/ep/moe_fixture.h"

namespace pleiad::ep {
namespace {

using kernels::Compute;
using testing::Layer;
using testing::Matrix;
using testing::random_matrix;

// Assignments of random rows to random experts; some experts get none.
struct Assignments {
  std::vector<std::int32_t> experts;
  std::vector<std::int32_t> rows;
};

Assignments random_assignments(Random& random, const MoeShape& shape, std::size_t rows) {
  Assignments out;
  for (std::size_t row = 0; row < rows; ++row) {
    for (std::int64_t expert = 0; expert < shape.gate.experts; ++expert) {
      if (expert % 3 == 2 || random.below(3) != 0) continue;
      out.experts.push_back(static_cast<std::int32_t>(expert));
      out.rows.push_back(static_cast<std::int32_t>(row));
    }
  }
  return out;
}

// A runner with its memory.
class Bench {
 public:
  Bench(const MoeShape& shape, const ExpertRunner::Limits& limits, Compute compute)
      : runner_(shape, limits, plan_, 0, 1),
        memory_(device::Scratch::allocate(std::move(plan_)).value()),
        context_{.pool = &pool_, .isa = device::detect_cpu_isa(), .compute = compute},
        hidden_(static_cast<std::size_t>(shape.hidden)) {}

  // [assignments, hidden], in the order of the assignments.
  Matrix run(const ExpertBatch& batch, const SharedBatch* shared = nullptr) {
    const ExpertOutput output = runner_.run(context_, memory_, batch, shared);
    Matrix out;
    for (const std::int32_t line : output.line_of) {
      const float* begin = output.lines + static_cast<std::size_t>(line) * hidden_;
      out.insert(out.end(), begin, begin + hidden_);
    }
    return out;
  }
  void run_shared(const SharedBatch& shared) { runner_.run_shared(context_, memory_, shared); }

 private:
  device::ThreadPool pool_{2};
  device::ArenaPlan plan_;
  ExpertRunner runner_;
  device::Scratch memory_;
  kernels::Context context_;
  std::size_t hidden_;
};

// down(silu(gate x) * up x) in double.
std::vector<double>
swiglu(const Matrix& gate_up, const Matrix& down, std::span<const float> x, std::int64_t width) {
  const auto w = static_cast<std::size_t>(width);
  const auto dot = [&](std::size_t row) {
    double sum = 0.0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      sum += static_cast<double>(gate_up[row * x.size() + i]) * static_cast<double>(x[i]);
    }
    return sum;
  };
  std::vector<double> out(x.size());
  for (std::size_t j = 0; j < w; ++j) {
    const double gate = dot(j);
    const double product = gate / (1.0 + std::exp(-gate)) * dot(w + j);
    for (std::size_t o = 0; o < out.size(); ++o) {
      out[o] += static_cast<double>(down[o * w + j]) * product;
    }
  }
  return out;
}

void expect_near(std::span<const float> got, const std::vector<double>& expected) {
  ASSERT_EQ(got.size(), expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_NEAR(got[i], expected[i], 1e-5 * (1.0 + std::abs(expected[i])));
  }
}

TEST(ExpertRunner, RunsEveryAssignmentAndTheSharedExpertLikePlainLoops) {
  constexpr std::uint64_t kSeed = 77;
  SCOPED_TRACE("seed " + std::to_string(kSeed));
  Random random(kSeed);
  for (const std::int64_t width : {8, 20, 33}) {
    const MoeShape shape{
        .hidden = 24,
        .intermediate = width,
        .shared_intermediate = 12,
        .gate = {.experts = 9, .topk = 3}};
    const Layer layer(shape, random);
    constexpr std::size_t kRows = 13;
    const Matrix x = random_matrix(random, kRows * 24, 1);
    const Assignments to = random_assignments(random, shape, kRows);
    Bench bench(shape, {.assignments_max = 200, .shared_rows_max = kRows}, Compute::Float32);
    Matrix shared_out(kRows * 24);
    const SharedBatch shared{
        .weights = &layer.packed, .x = x.data(), .rows = kRows, .out = shared_out.data()};

    const Matrix out = bench.run(
        {.weights = &layer.packed.shards[0], .x = x.data(), .experts = to.experts, .rows = to.rows},
        &shared
    );

    const auto row_of = [&](std::size_t row) { return std::span(x).subspan(row * 24, 24); };
    for (std::size_t i = 0; i < to.experts.size(); ++i) {
      const auto e = static_cast<std::size_t>(to.experts[i]);
      const auto row = row_of(static_cast<std::size_t>(to.rows[i]));
      expect_near(
          std::span(out).subspan(i * 24, 24), swiglu(layer.gate_up[e], layer.down[e], row, width)
      );
    }
    for (std::size_t row = 0; row < kRows; ++row) {
      expect_near(
          std::span(shared_out).subspan(row * 24, 24),
          swiglu(layer.shared_gate_up, layer.shared_down, row_of(row), 12)
      );
    }
    // The shared expert alone gives the bits it gives riding along.
    Matrix alone(shared_out.size());
    bench.run_shared({.weights = &layer.packed, .x = x.data(), .rows = kRows, .out = alone.data()});
    EXPECT_EQ(alone, shared_out);
  }
}

TEST(ExpertRunner, NoAssignmentsAreFine) {
  Random random(1);
  const MoeShape shape{.hidden = 8, .intermediate = 8, .gate = {.experts = 4, .topk = 2}};
  const Layer layer(shape, random);
  Bench bench(shape, {.assignments_max = 4}, Compute::Float32);
  const Matrix x(8);

  EXPECT_TRUE(
      bench.run({.weights = &layer.packed.shards[0], .x = x.data(), .experts = {}, .rows = {}}
      ).empty()
  );
}

class ExpertRunnerShards : public ::testing::TestWithParam<Compute> {};

// A holder's shards are computed apart and added along a binary tree: the bits are those of the
// whole expert.
TEST_P(ExpertRunnerShards, AddUpToTheBitsOfTheWholeExpert) {
  constexpr std::uint64_t kSeed = 4242;
  SCOPED_TRACE("seed " + std::to_string(kSeed));
  Random random(kSeed);
  for (const std::int32_t shards : {2, 4}) {
    const MoeShape shape{.hidden = 40, .intermediate = 48, .gate = {.experts = 7, .topk = 3}};
    const Layer layer(shape, random, GetParam(), shards);
    constexpr std::size_t kRows = 11;
    Matrix x = random_matrix(random, kRows * 40, 1);
    for (float& value : x) {
      value = kernels::round_activation(value, GetParam());
    }
    const Assignments to = random_assignments(random, shape, kRows);
    const auto run = [&](const ExpertShard& weights, std::int32_t parts) {
      Bench bench(shape, {.assignments_max = 200, .moe_tp = parts}, GetParam());
      return bench.run({.weights = &weights, .x = x.data(), .experts = to.experts, .rows = to.rows}
      );
    };
    const Matrix whole = run(layer.packed.shards[0], 1);

    std::vector<Matrix> parts;
    for (const ExpertShard& shard : layer.sharded.shards) {
      parts.push_back(run(shard, shards));
    }
    for (std::size_t step = 1; step < parts.size(); step *= 2) {
      for (std::size_t t = 0; t + step < parts.size(); t += 2 * step) {
        for (std::size_t i = 0; i < whole.size(); ++i) {
          parts[t][i] += parts[t + step][i];
        }
      }
    }

    ASSERT_FALSE(whole.empty());
    EXPECT_EQ(std::memcmp(parts[0].data(), whole.data(), whole.size() * sizeof(float)), 0)
        << shards << " shards";
  }
}

INSTANTIATE_TEST_SUITE_P(
    Computes,
    ExpertRunnerShards,
    ::testing::Values(Compute::Float32, Compute::BFloat16)
);

}  // namespace
}  // namespace pleiad::ep
