#include "kernels/tree_combine.h"

#include <algorithm>
#include <set>

#include <gtest/gtest.h>

#include "tests/kernels/support.h"

namespace pleiad::kernels {
namespace {

using testing::poison;
using testing::random_floats;
using testing::same_bits;

struct Rows {
  std::vector<float> expert_rows;
  std::vector<std::int32_t> row_of;
  std::vector<std::int32_t> ids;
  std::vector<float> weights;
  std::vector<float> shared;
  std::vector<float> residual;
  TreeCombineTask task;
};

struct Dims {
  std::int64_t rows;
  std::int64_t topk;
  std::int64_t hidden;
  std::uint64_t experts;
};

void fill(Rows& rows, Random& random, Dims dims, Compute compute) {
  const auto hidden = static_cast<std::size_t>(dims.hidden);
  const auto assignments = static_cast<std::size_t>(dims.rows * dims.topk);
  rows.expert_rows = random_floats(random, assignments * hidden, compute);
  rows.weights = random_floats(random, assignments, Compute::Float32);
  rows.shared = random_floats(random, static_cast<std::size_t>(dims.rows) * hidden, compute);
  rows.residual = random_floats(random, static_cast<std::size_t>(dims.rows) * hidden, compute);
  for (std::int64_t row = 0; row < dims.rows; ++row) {
    std::set<std::int32_t> chosen;
    while (chosen.size() < static_cast<std::size_t>(dims.topk)) {
      chosen.insert(static_cast<std::int32_t>(random.below(dims.experts)));
    }
    rows.ids.insert(rows.ids.end(), chosen.begin(), chosen.end());
  }
  for (std::size_t i = 0; i < assignments; ++i) {
    rows.row_of.push_back(static_cast<std::int32_t>(assignments - 1 - i));
  }
  rows.task = {
      .expert_rows = rows.expert_rows.data(),
      .row_of = rows.row_of.data(),
      .ids = rows.ids.data(),
      .weights = rows.weights.data(),
      .rows = dims.rows,
      .topk = dims.topk,
      .hidden = dims.hidden,
      .shared = rows.shared.data(),
      .residual = rows.residual.data(),
  };
}

TEST(TreeCombine, GivesTheReferencesBitsOnEveryIsa) {
  Random random(1);
  for (const Compute compute : {Compute::Float32, Compute::BFloat16}) {
    for (const Dims dims :
         {Dims{1, 1, 1, 1},
          {5, 2, 63, 2},
          {7, 8, 64, 256},
          {3, 8, 129, 9},
          {2, 64, 70, 100},
          {3, 5, 16, 100'000}}) {
      for (const bool with_shared : {false, true}) {
        Rows rows;
        fill(rows, random, dims, compute);
        if (!with_shared) rows.task.shared = nullptr;
        auto expected = rows.residual;
        TreeCombineTask task = rows.task;
        task.residual = expected.data();
        tree_combine_reference(compute, task);
        for (const device::CpuIsa isa : testing::runnable_isas()) {
          device::ThreadPool pool(2);
          auto residual = rows.residual;
          task.residual = residual.data();
          tree_combine({&pool, isa, compute}, task);
          EXPECT_TRUE(same_bits(residual, expected))
              << device::to_string(isa) << " topk " << dims.topk << " hidden " << dims.hidden;
        }
      }
    }
  }
}

// One element whose sum shows the order: with these leaves each order of addition rounds
// differently.
TEST(TreeCombine, AddsAlongTheTreeOfIds) {
  const std::vector<float> leaves = {1.0F, 1e-8F, 1e-8F, 1e-8F};
  const std::vector<std::int32_t> row_of = {0, 1, 2, 3};
  const std::vector<float> weights(4, 1.0F);
  device::ThreadPool pool(1);
  const auto sum_of = [&](const std::vector<std::int32_t>& ids) {
    float residual = 0.0F;
    tree_combine(
        {&pool, device::detect_cpu_isa(), Compute::Float32},
        {leaves.data(), row_of.data(), ids.data(), weights.data(), 1, 4, 1, nullptr, &residual}
    );
    return residual;
  };

  // ((0 1) (2 3)): 1e-8 vanishes beside 1, and 2e-8 does too.
  EXPECT_EQ(sum_of({0, 1, 2, 3}), (1.0F + 1e-8F) + (1e-8F + 1e-8F));
  // 0 stands alone under the root; 4 5 6 share the other half.
  EXPECT_EQ(sum_of({0, 4, 5, 6}), 1.0F + ((1e-8F + 1e-8F) + 1e-8F));
  // Far ids behave as near ones: only the shape of the tree matters.
  EXPECT_EQ(sum_of({0, 64, 65, 127}), sum_of({0, 4, 5, 6}));
}

// The promise behind rank-reduced combine: whoever holds all chosen experts under a node may send
// the node's sum in place of its leaves.
TEST(TreeCombine, LetsANodesSumStandInForItsLeaves) {
  Random random(2);
  for (int round = 0; round < 50; ++round) {
    Rows rows;
    fill(rows, random, {1, 8, 32, 64}, Compute::BFloat16);
    std::fill(rows.weights.begin(), rows.weights.end(), 1.0F);
    rows.task.shared = nullptr;
    device::ThreadPool pool(1);
    const Context context = {&pool, device::detect_cpu_isa(), Compute::BFloat16};
    std::vector<float> whole(32);
    rows.task.residual = whole.data();
    tree_combine(context, rows.task);

    // Two ranks hold 32 experts each: each sums its own, then the two sums are added.
    const auto cut = std::lower_bound(rows.ids.begin(), rows.ids.end(), 32) - rows.ids.begin();
    std::vector<float> halves(2 * 32);
    for (const bool high : {false, true}) {
      TreeCombineTask half = rows.task;
      const std::int64_t begin = high ? cut : 0;
      half.topk = high ? 8 - cut : cut;
      half.ids += begin;
      half.row_of += begin;
      half.weights += begin;
      half.residual = halves.data() + (high ? 32 : 0);
      tree_combine(context, half);
    }
    std::vector<float> joined(32);
    for (std::size_t i = 0; i < 32; ++i) {
      joined[i] = device::round_to_bf16(halves[i] + halves[32 + i]);
    }
    EXPECT_TRUE(same_bits(joined, whole)) << round;
  }
}

TEST(TreeCombine, AddsOnlyTheSharedExpertWithoutChoices) {
  device::ThreadPool pool(1);
  const std::vector<float> shared = {1.0F, 2.0F};
  std::vector<float> residual = {10.0F, 20.0F};

  tree_combine(
      {&pool, device::detect_cpu_isa(), Compute::Float32},
      {.rows = 1, .topk = 0, .hidden = 2, .shared = shared.data(), .residual = residual.data()}
  );

  EXPECT_EQ(residual, (std::vector<float>{11.0F, 22.0F}));
}

}  // namespace
}  // namespace pleiad::kernels
