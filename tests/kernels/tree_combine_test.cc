#include "kernels/tree_combine.h"

#include <algorithm>
#include <numeric>
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
      .term_rows = rows.expert_rows.data(),
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
        {.term_rows = leaves.data(),
         .row_of = row_of.data(),
         .ids = ids.data(),
         .weights = weights.data(),
         .rows = 1,
         .topk = 4,
         .hidden = 1,
         .residual = &residual}
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
TEST(TreeCombine, LetsNodesSumsStandInForTheirLeaves) {
  Random random(2);
  for (int round = 0; round < 100; ++round) {
    const Compute compute = round % 2 == 0 ? Compute::BFloat16 : Compute::Float32;
    Rows rows;
    fill(rows, random, {1, 8, 33, 64}, compute);
    device::ThreadPool pool(1);
    const Context context = {&pool, device::detect_cpu_isa(), compute};
    auto whole = rows.residual;
    TreeCombineTask task = rows.task;
    task.residual = whole.data();
    tree_combine(context, task);

    // Four ranks hold sixteen experts each: each sums its own, then the sums are added.
    std::vector<std::int32_t> starts = {0};
    std::vector<std::int32_t> node_ids;
    for (std::int32_t first = 0; first < 64; first += 16) {
      const auto end = std::lower_bound(rows.ids.begin(), rows.ids.end(), first + 16);
      const auto count = static_cast<std::int32_t>(end - rows.ids.begin());
      if (count == starts.back()) continue;
      node_ids.push_back(*(end - 1));
      starts.push_back(count);
    }
    const std::size_t nodes = node_ids.size();
    auto sums = poison(nodes * 33);
    TreeCombineTask partial = rows.task;
    partial.rows = static_cast<std::int64_t>(nodes);
    partial.starts = starts.data();
    partial.shared = nullptr;
    partial.residual = nullptr;
    partial.sum = sums.data();
    tree_combine(context, partial);
    std::vector<std::int32_t> lines(nodes);
    std::iota(lines.begin(), lines.end(), 0);
    auto joined = rows.residual;
    TreeCombineTask rest = rows.task;
    rest.term_rows = sums.data();
    rest.row_of = lines.data();
    rest.ids = node_ids.data();
    rest.weights = nullptr;
    rest.topk = static_cast<std::int64_t>(nodes);
    rest.residual = joined.data();
    tree_combine(context, rest);
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
