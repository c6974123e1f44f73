#include "kernels/tree_combine.h"

#include <algorithm>
#include <array>
#include <bit>
#include <span>

#include "base/check.h"
#include "kernels/detail/isa_kernels.h"
#include "kernels/detail/row_blocks.h"

namespace pleiad::kernels {
namespace {

static_assert(kTopkMax == detail::kCombineLeavesMax);

// The order in which one row's leaves are added: merge m puts slot from[m] into slot into[m].
struct MergePlan {
  std::array<std::uint8_t, kTopkMax> into{};
  std::array<std::uint8_t, kTopkMax> from{};
};

// Where a row's terms stand in the task's arrays.
struct TermRange {
  std::size_t begin = 0;
  std::size_t count = 0;
};

TermRange terms_of(const TreeCombineTask& task, std::int64_t row) {
  const bool ragged = task.starts != nullptr;
  const std::int64_t begin = ragged ? task.starts[row] : row * task.topk;
  const std::int64_t count = ragged ? task.starts[row + 1] - begin : task.topk;
  PLEIAD_CHECK(count >= 0 && count <= kTopkMax);
  return {static_cast<std::size_t>(begin), static_cast<std::size_t>(count)};
}

// How high the node that joins two experts stands: one more than their highest differing bit.
int level_between(std::int32_t a, std::int32_t b) {
  return 32 - std::countl_zero(static_cast<std::uint32_t>(a) ^ static_cast<std::uint32_t>(b));
}

// Leaves are neighbours in id order, so a node is a run of them, kept in the slot of its first
// leaf. Joining the gaps between neighbours from the lowest level up builds the tree.
MergePlan plan_merges(std::span<const std::int32_t> ids) {
  MergePlan plan;
  const std::size_t gaps = ids.empty() ? 0 : ids.size() - 1;
  std::array<std::uint8_t, kTopkMax> order{};
  std::array<int, kTopkMax> levels{};
  std::array<bool, kTopkMax> joined{};  // gap g, between leaves g and g + 1
  for (std::size_t gap = 0; gap < gaps; ++gap) {
    order[gap] = static_cast<std::uint8_t>(gap);
    levels[gap] = level_between(ids[gap], ids[gap + 1]);
  }
  std::sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(gaps), [&](auto a, auto b) {
    return levels[a] != levels[b] ? levels[a] < levels[b] : a < b;
  });
  for (std::size_t merge = 0; merge < gaps; ++merge) {
    const std::size_t gap = order[merge];
    std::size_t first = gap;
    while (first > 0 && joined[first - 1]) {
      --first;
    }
    plan.into[merge] = static_cast<std::uint8_t>(first);
    plan.from[merge] = static_cast<std::uint8_t>(gap + 1);
    joined[gap] = true;
  }
  return plan;
}

// The node at `level` that covers the leaves [begin, end), one element of it.
float reference_node(
    Compute compute,
    std::span<const std::int32_t> ids,
    std::span<const float> leaves,
    int level
) {
  if (ids.size() == 1) return leaves[0];
  std::size_t split = 0;
  while (split < ids.size() && ((ids[split] >> (level - 1)) & 1) == 0) {
    ++split;
  }
  if (split == 0 || split == ids.size()) return reference_node(compute, ids, leaves, level - 1);
  const float low = reference_node(compute, ids.first(split), leaves.first(split), level - 1);
  const float high = reference_node(compute, ids.subspan(split), leaves.subspan(split), level - 1);
  return round_activation(low + high, compute);
}

}  // namespace

void tree_combine(const Context& context, const TreeCombineTask& task) {
  PLEIAD_CHECK((task.residual == nullptr) != (task.sum == nullptr));
  const auto& isa = detail::kernels_of(context.isa);
  detail::for_rows(context, task.rows, task.hidden * (task.topk + 2), [&](std::int64_t row) {
    const TermRange range = terms_of(task, row);
    const MergePlan plan = plan_merges({task.ids + range.begin, range.count});
    std::array<const float*, kTopkMax> leaves{};
    for (std::size_t k = 0; k < range.count; ++k) {
      leaves[k] = task.term_rows + task.row_of[range.begin + k] * task.hidden;
    }
    isa.combine_row({
        .leaves = leaves.data(),
        .weights = task.weights == nullptr ? nullptr : task.weights + range.begin,
        .into = plan.into.data(),
        .from = plan.from.data(),
        .count = static_cast<std::int64_t>(range.count),
        .hidden = task.hidden,
        .shared = task.shared == nullptr ? nullptr : task.shared + row * task.hidden,
        .residual = task.residual == nullptr ? nullptr : task.residual + row * task.hidden,
        .sum = task.sum == nullptr ? nullptr : task.sum + row * task.hidden,
        .round = context.compute == Compute::BFloat16,
    });
  });
}

void tree_combine_reference(Compute compute, const TreeCombineTask& task) {
  for (std::int64_t row = 0; row < task.rows; ++row) {
    const TermRange range = terms_of(task, row);
    const std::span ids(task.ids + range.begin, range.count);
    for (std::int64_t i = 0; i < task.hidden; ++i) {
      std::array<float, kTopkMax> leaves{};
      for (std::size_t k = 0; k < range.count; ++k) {
        const float leaf = task.term_rows[task.row_of[range.begin + k] * task.hidden + i];
        const bool raw = task.weights != nullptr;
        leaves[k] = raw ? round_activation(task.weights[range.begin + k] * leaf, compute) : leaf;
      }
      const std::span terms = std::span(leaves).first(range.count);
      float sum = terms.empty() ? 0.0F : reference_node(compute, ids, terms, 31);
      const std::int64_t at = row * task.hidden + i;
      if (task.shared != nullptr) sum = round_activation(sum + task.shared[at], compute);
      if (task.sum != nullptr) {
        task.sum[at] = sum;
      } else {
        task.residual[at] += sum;
      }
    }
  }
}

}  // namespace pleiad::kernels
