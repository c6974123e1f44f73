#pragma once

#include <climits>
#include <cstdint>
#include <type_traits>

#include "base/check.h"
#include "kernels/cuda/detail/device_math.cuh"
#include "kernels/cuda/expert_gate.h"
#include "kernels/tree_combine.h"

// The choice of one row's experts by a warp. Lane l has experts l, l + 32, ... in registers.
namespace pleiad::kernels::cuda::detail {

// What a row needs of shared memory.
struct GateRow {
  float* weights;       // [topk]
  float* choice;        // [experts], with groups
  float* group_scores;  // [groups], with groups
};

__host__ __device__ inline std::int64_t gate_row_floats(const GateOptions& options) {
  const std::int64_t grouped = options.groups > 1 ? options.experts + options.groups : 0;
  return options.topk + grouped;
}

__device__ inline GateRow gate_row(const GateOptions& options, float* shared, int index) {
  float* weights = shared + index * gate_row_floats(options);
  float* choice = weights + options.topk;
  return {.weights = weights, .choice = choice, .group_scores = choice + options.experts};
}

__device__ inline float comparable(float score) {
  return isnan(score) ? -INFINITY : score;
}

// Orders as the value does, both zeros alike; never 0, which stands for what cannot be chosen.
__device__ inline unsigned rank_of(float value) {
  const unsigned bits = __float_as_uint(value + 0.0F);
  return (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
}

// y = softmax(x) over the warp's elements with NaN as minus infinity. The sum: each lane a chain
// over its own, then over the warp.
template <int kPer>
__device__ void softmax(int lane, int count, const float (&x)[kPer], float (&y)[kPer]) {
  float top = -INFINITY;
  for (int j = 0; j < kPer; ++j) {
    if (j * 32 + lane < count) top = fmaxf(top, comparable(x[j]));
  }
  top = warp_max(top);
  float sum = 0.0F;
  for (int j = 0; j < kPer; ++j) {
    if (j * 32 + lane >= count) continue;
    y[j] = expf(comparable(x[j]) - top);
    sum += y[j];
  }
  sum = warp_sum(sum);
  for (int j = 0; j < kPer; ++j) {
    y[j] /= sum;
  }
}

__device__ inline float group_score(GroupScore kind, const float* choice, int count) {
  float first = -INFINITY;
  float second = -INFINITY;
  for (int i = 0; i < count; ++i) {
    if (choice[i] > first) {
      second = first;
      first = choice[i];
    } else {
      second = fmaxf(second, choice[i]);
    }
  }
  if (kind == GroupScore::Max || count < 2) return first;
  return comparable(first + second);
}

// Scores of the lane's experts, and what they are chosen by.
template <int kPer>
__device__ void score_row(
    int lane,
    const SelectExpertsTask& task,
    const float* logits,
    float (&scores)[kPer],
    float (&choice)[kPer]
) {
  const int experts = static_cast<int>(task.options.experts);
  const bool of_chosen = task.options.score == GateScore::SoftmaxOfChosen;
  float x[kPer];
  for (int j = 0; j < kPer; ++j) {
    const int id = j * 32 + lane;
    x[j] = id < experts ? logits[id] : -INFINITY;
    scores[j] = of_chosen ? x[j] : 1.0F / (1.0F + expf(-x[j]));
  }
  if (task.options.score == GateScore::Softmax) softmax(lane, experts, x, scores);
  for (int j = 0; j < kPer; ++j) {
    const int id = j * 32 + lane;
    if (isnan(scores[j])) scores[j] = of_chosen ? -INFINITY : 0.0F;
    const float bias = task.bias == nullptr || id >= experts ? 0.0F : task.bias[id];
    choice[j] = isnan(x[j]) ? -INFINITY : comparable(scores[j] + bias);
  }
}

// The best of `ranks` over the warp, ties to the lower id; 0 marks what is taken.
template <int kPer>
__device__ int take_best(int lane, unsigned (&ranks)[kPer]) {
  unsigned best = 0;
  int id = INT_MAX;
  for (int j = 0; j < kPer; ++j) {
    if (ranks[j] <= best) continue;
    best = ranks[j];
    id = j * 32 + lane;
  }
  const unsigned top = __reduce_max_sync(kAllLanes, best);
  const int chosen = __reduce_min_sync(kAllLanes, best == top ? id : INT_MAX);
  for (int j = 0; j < kPer; ++j) {
    if (j * 32 + lane == chosen) ranks[j] = 0;
  }
  return chosen;
}

// Closes the experts of all but the best groups.
template <int kPer>
__device__ void close_groups(
    int lane,
    const GateOptions& options,
    const float (&choice)[kPer],
    const GateRow& row,
    unsigned (&ranks)[kPer]
) {
  const int experts = static_cast<int>(options.experts);
  const int groups = static_cast<int>(options.groups);
  const int members = experts / groups;
  for (int j = 0; j < kPer; ++j) {
    if (j * 32 + lane < experts) row.choice[j * 32 + lane] = choice[j];
  }
  __syncwarp();
  // At most kTopkMax groups: two to a lane.
  unsigned group_ranks[2] = {};
  for (int j = 0; j < 2; ++j) {
    const int group = j * 32 + lane;
    if (group >= groups) continue;
    group_ranks[j] =
        rank_of(group_score(options.group_score, row.choice + group * members, members));
  }
  std::uint64_t open = 0;
  for (int k = 0; k < static_cast<int>(options.topk_groups); ++k) {
    open |= std::uint64_t{1} << take_best(lane, group_ranks);
  }
  for (int j = 0; j < kPer; ++j) {
    const int group = (j * 32 + lane) / members;
    if (group < groups && (open >> group & 1U) == 0) ranks[j] = 0;
  }
  __syncwarp();
}

// Ids of the taken experts in ascending order, and their scores in row.weights.
template <int kPer>
__device__ void write_ids(
    int lane,
    unsigned taken,  // bit j: of the lane's
    const float (&scores)[kPer],
    std::int32_t* ids,
    const GateRow& row
) {
  int before = 0;
  for (int j = 0; j < kPer; ++j) {
    const bool mine = (taken >> j & 1U) != 0;
    const unsigned mask = __ballot_sync(kAllLanes, mine);
    const int at = before + __popc(mask & ((1U << static_cast<unsigned>(lane)) - 1U));
    if (mine) {
      ids[at] = j * 32 + lane;
      row.weights[at] = scores[j];
    }
    before += __popc(mask);
  }
  __syncwarp();
}

// Weights of the chosen, from their scores in row.weights.
__device__ inline void
write_weights(int lane, const GateOptions& options, const GateRow& row, float* out) {
  const int topk = static_cast<int>(options.topk);
  const bool of_chosen = options.score == GateScore::SoftmaxOfChosen;
  // At most kTopkMax chosen: two to a lane.
  float weights[2] = {};
  for (int j = 0; j < 2; ++j) {
    if (j * 32 + lane < topk) weights[j] = row.weights[j * 32 + lane];
  }
  if (of_chosen) softmax(lane, topk, weights, weights);
  float sum = 0.0F;
  for (int k = 0; k < topk; ++k) {
    sum += row.weights[k];
  }
  const float divisor = options.normalize && !of_chosen ? sum + 1e-20F : 1.0F;
  for (int j = 0; j < 2; ++j) {
    if (j * 32 + lane < topk) out[j * 32 + lane] = weights[j] / divisor * options.scale;
  }
  __syncwarp();
}

// The experts of row `index`. REQUIRES: at most 32 * kPer experts.
template <int kPer>
__device__ void select_row(const SelectExpertsTask& task, std::int64_t index, const GateRow& row) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const GateOptions& options = task.options;
  const int experts = static_cast<int>(options.experts);
  const int topk = static_cast<int>(options.topk);
  float scores[kPer];
  float choice[kPer];
  score_row(lane, task, task.logits + index * experts, scores, choice);
  unsigned ranks[kPer];
  for (int j = 0; j < kPer; ++j) {
    ranks[j] = j * 32 + lane < experts ? rank_of(choice[j]) : 0;
  }
  if (options.groups > 1) close_groups(lane, options, choice, row, ranks);
  unsigned taken = 0;
  for (int k = 0; k < topk; ++k) {
    const int id = take_best(lane, ranks);
    if (id % 32 == lane) taken |= 1U << static_cast<unsigned>(id / 32);
  }
  const std::int64_t first = index * (topk + task.shared);
  write_ids(lane, taken, scores, task.ids + first, row);
  write_weights(lane, options, row, task.weights + first);
  for (int s = lane; s < static_cast<int>(task.shared); s += 32) {
    task.ids[first + topk + s] = experts + s;
    task.weights[first + topk + s] = 1.0F;
  }
}

// body(integral constant): experts of a lane.
template <typename Body>
void with_experts_per_lane(std::int64_t experts, const Body& body) {
  if (experts <= 64) {
    body(std::integral_constant<int, 2>{});
  } else if (experts <= 128) {
    body(std::integral_constant<int, 4>{});
  } else if (experts <= 256) {
    body(std::integral_constant<int, 8>{});
  } else {
    body(std::integral_constant<int, kExpertsMax / 32>{});
  }
}

inline void check_gate(const GateOptions& options) {
  PLEIAD_CHECK(options.experts > 0 && options.experts <= kExpertsMax);
  PLEIAD_CHECK(options.groups > 0 && options.groups <= kTopkMax);
  PLEIAD_CHECK(options.experts % options.groups == 0);
  PLEIAD_CHECK(options.topk_groups > 0 && options.topk_groups <= options.groups);
  const std::int64_t eligible = options.experts / options.groups * options.topk_groups;
  PLEIAD_CHECK(options.topk > 0 && options.topk <= eligible && options.topk <= kTopkMax);
}

// Shared memory for `rows` rows of gate_row().
inline std::size_t gate_rows_bytes(const GateOptions& options, std::int64_t rows) {
  return static_cast<std::size_t>(rows * gate_row_floats(options)) * sizeof(float);
}

}  // namespace pleiad::kernels::cuda::detail
