#include "ep/moe_layer.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include "base/random.h"
#include "device/thread_pool.h"
#include "tests/ep/moe_fixture.h"

namespace pleiad::ep {
namespace {

using testing::Layer;
using testing::Matrix;
using testing::random_matrix;

// down( silu(gate x) * up x ) in double.
std::vector<double>
swiglu(const Matrix& gate_up, const Matrix& down, std::span<const float> x, std::int64_t width) {
  const std::size_t hidden = x.size();
  const auto w = static_cast<std::size_t>(width);
  const auto dot = [&](std::size_t row) {
    double sum = 0.0;
    for (std::size_t i = 0; i < hidden; ++i)
      sum += static_cast<double>(gate_up[row * hidden + i]) * static_cast<double>(x[i]);
    return sum;
  };
  std::vector<double> product(w);
  for (std::size_t j = 0; j < w; ++j) {
    const double g = dot(j);
    product[j] = g / (1.0 + std::exp(-g)) * dot(w + j);
  }
  std::vector<double> out(hidden);
  for (std::size_t o = 0; o < hidden; ++o) {
    for (std::size_t j = 0; j < w; ++j)
      out[o] += static_cast<double>(down[o * w + j]) * product[j];
  }
  return out;
}

// The layer by the formula of DeepSeek-V3's gate, for ungrouped experts.
std::vector<double> reference_row(const Layer& layer, std::span<const float> x) {
  const auto experts = static_cast<std::size_t>(layer.shape.gate.experts);
  std::vector<double> score(experts);
  for (std::size_t e = 0; e < experts; ++e) {
    double logit = 0.0;
    for (std::size_t i = 0; i < x.size(); ++i)
      logit += static_cast<double>(layer.gate[e * x.size() + i]) * static_cast<double>(x[i]);
    score[e] = 1.0 / (1.0 + std::exp(-logit));
  }
  std::vector<std::size_t> order(experts);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) {
    return score[a] + static_cast<double>(layer.packed.choice_bias[a]) >
           score[b] + static_cast<double>(layer.packed.choice_bias[b]);
  });
  order.resize(static_cast<std::size_t>(layer.shape.gate.topk));
  double total = 0.0;
  for (const std::size_t e : order)
    total += score[e];
  std::vector<double> out(x.size());
  for (const std::size_t e : order) {
    const auto expert = swiglu(layer.gate_up[e], layer.down[e], x, layer.shape.intermediate);
    for (std::size_t i = 0; i < x.size(); ++i)
      out[i] += score[e] / total * static_cast<double>(layer.shape.gate.scale) * expert[i];
  }
  if (layer.shape.shared_intermediate > 0) {
    const auto shared =
        swiglu(layer.shared_gate_up, layer.shared_down, x, layer.shape.shared_intermediate);
    for (std::size_t i = 0; i < x.size(); ++i)
      out[i] += shared[i];
  }
  return out;
}

class MoeLayer : public ::testing::TestWithParam<std::int64_t> {};  // width of the shared expert

TEST_P(MoeLayer, EqualsTheFormulaRowByRowAndBitByBitInAnyBatch) {
  Random random(31);
  const MoeShape shape{
      .hidden = 48,
      .intermediate = 20,
      .shared_intermediate = GetParam(),
      .gate = {.experts = 11, .topk = 3, .scale = 2.5F},
  };
  Layer layer(shape, random);
  constexpr std::int64_t kRows = 19;
  const Matrix x = random_matrix(random, kRows * 48, 1);
  device::ThreadPool pool(2);
  const kernels::Context context{.pool = &pool, .isa = device::detect_cpu_isa()};
  device::ArenaPlan plan;
  MoeRunner runner(shape, {}, {.rows_max = kRows, .compute = context.compute}, plan, 0, 1);
  auto scratch = device::Scratch::allocate(std::move(plan)).value();
  std::vector<std::uint64_t> tokens(11);

  Matrix together(kRows * 48, 0.0F);
  runner.run(
      context,
      scratch,
      {.weights = &layer.packed,
       .x = x.data(),
       .rows = kRows,
       .residual = together.data(),
       .expert_tokens = tokens}
  );

  EXPECT_EQ(std::accumulate(tokens.begin(), tokens.end(), std::uint64_t{0}), 3U * kRows);
  for (std::int64_t r = 0; r < kRows; ++r) {
    const auto row = std::span(x).subspan(static_cast<std::size_t>(r) * 48, 48);
    Matrix alone(48, 0.0F);
    runner.run(
        context,
        scratch,
        {.weights = &layer.packed, .x = row.data(), .rows = 1, .residual = alone.data()}
    );
    const auto expected = reference_row(layer, row);
    for (std::size_t i = 0; i < 48; ++i) {
      const float in_batch = together[static_cast<std::size_t>(r) * 48 + i];
      ASSERT_EQ(alone[i], in_batch);
      ASSERT_NEAR(in_batch, expected[i], 1e-4 * (1.0 + std::abs(expected[i])));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(SharedWidths, MoeLayer, ::testing::Values(0, 20, 33));

}  // namespace
}  // namespace pleiad::ep
