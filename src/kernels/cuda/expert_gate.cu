#include "base/check.h"
#include "kernels/cuda/detail/device_math.cuh"
#include "kernels/cuda/expert_gate.h"
#include "kernels/tree_combine.h"

namespace pleiad::kernels::cuda {
namespace {

using detail::blocks_for;
using detail::kAllLanes;

constexpr int kLanes = 32;
constexpr int kWarps = 4;  // rows of a block
constexpr int kGroupThreads = 256;
constexpr int kGateRows = 4;
constexpr int kGateExperts = 2;
constexpr float kNever = -INFINITY;

// One row's work space, in shared memory.
struct GateRow {
  float scores[kExpertsMax];
  float choice[kExpertsMax];
  unsigned char open[kExpertsMax];   // whether an expert may still be chosen
  unsigned char taken[kExpertsMax];  // whether it was
  float weights[kTopkMax];
};

__device__ float comparable(float score) {
  return isnan(score) ? kNever : score;
}

// y = softmax(x) with NaN as minus infinity. The sum: a strided chain per lane, then over the warp.
__device__ void softmax(int lane, int count, const float* x, float* y) {
  float top = kNever;
  for (int i = lane; i < count; i += kLanes) {
    top = fmaxf(top, comparable(x[i]));
  }
  top = detail::warp_max(top);
  float sum = 0.0F;
  for (int i = lane; i < count; i += kLanes) {
    y[i] = expf(comparable(x[i]) - top);
    sum += y[i];
  }
  sum = detail::warp_sum(sum);
  for (int i = lane; i < count; i += kLanes) {
    y[i] /= sum;
  }
  __syncwarp();
}

// The best of `values` among those that are open, ties to the lower index; -1 when none is.
__device__ int best_open(int lane, int count, const float* values, const unsigned char* open) {
  int best = -1;
  float best_value = kNever;
  for (int i = lane; i < count; i += kLanes) {
    if (open[i] != 0 && (best < 0 || values[i] > best_value)) {
      best = i;
      best_value = values[i];
    }
  }
  for (int distance = kLanes / 2; distance > 0; distance /= 2) {
    const int other = __shfl_xor_sync(kAllLanes, best, distance);
    const float value = __shfl_xor_sync(kAllLanes, best_value, distance);
    const bool better =
        other >= 0 && (best < 0 || value > best_value || (value == best_value && other < best));
    if (better) {
      best = other;
      best_value = value;
    }
  }
  return best;
}

__device__ float group_score(GroupScore kind, const float* choice, int count) {
  float first = kNever;
  float second = kNever;
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

// Opens the experts of the best groups.
__device__ void open_groups(int lane, const GateOptions& options, GateRow& row) {
  __shared__ float group_scores[kWarps][kTopkMax];
  __shared__ unsigned char group_open[kWarps][kTopkMax];
  const int groups = static_cast<int>(options.groups);
  const int members = static_cast<int>(options.experts) / groups;
  float* scores = group_scores[threadIdx.x / kLanes];
  unsigned char* open = group_open[threadIdx.x / kLanes];
  for (int i = lane; i < static_cast<int>(options.experts); i += kLanes) {
    row.open[i] = groups == 1 ? 1 : 0;
    row.taken[i] = 0;
  }
  __syncwarp();
  if (groups == 1) return;
  for (int group = lane; group < groups; group += kLanes) {
    scores[group] = group_score(options.group_score, row.choice + group * members, members);
    open[group] = 1;
  }
  __syncwarp();
  for (int k = 0; k < static_cast<int>(options.topk_groups); ++k) {
    const int group = best_open(lane, groups, scores, open);
    __syncwarp();
    if (lane == 0) open[group] = 0;
    for (int i = lane; i < members; i += kLanes) {
      row.open[group * members + i] = 1;
    }
    __syncwarp();
  }
}

// Scores of all experts, and what they are chosen by.
__device__ void score(int lane, const SelectExpertsTask& task, const float* logits, GateRow& row) {
  const int experts = static_cast<int>(task.options.experts);
  const bool of_chosen = task.options.score == GateScore::SoftmaxOfChosen;
  if (task.options.score == GateScore::Softmax) softmax(lane, experts, logits, row.scores);
  for (int i = lane; i < experts; i += kLanes) {
    if (task.options.score == GateScore::Sigmoid) {
      row.scores[i] = 1.0F / (1.0F + expf(-logits[i]));
    } else if (of_chosen) {
      row.scores[i] = logits[i];
    }
    if (isnan(row.scores[i])) row.scores[i] = of_chosen ? kNever : 0.0F;
    const float bias = task.bias == nullptr ? 0.0F : task.bias[i];
    row.choice[i] = isnan(logits[i]) ? kNever : comparable(row.scores[i] + bias);
  }
  __syncwarp();
}

// Writes the taken experts in ascending order with their scores.
__device__ void
write_ids(int lane, int experts, const GateRow& row, std::int32_t* ids, float* weights) {
  int before = 0;
  for (int first = 0; first < experts; first += kLanes) {
    const int id = first + lane;
    const bool taken = id < experts && row.taken[id] != 0;
    const unsigned mask = __ballot_sync(kAllLanes, taken);
    const int at = before + __popc(mask & ((1U << static_cast<unsigned>(lane)) - 1U));
    if (taken) {
      ids[at] = id;
      weights[at] = row.scores[id];
    }
    before += __popc(mask);
  }
  __syncwarp();
}

__global__ void __launch_bounds__(kWarps* kLanes) select_rows(const SelectExpertsTask task) {
  __shared__ GateRow rows[kWarps];
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / kLanes;
  if (index >= task.rows) return;
  GateRow& row = rows[threadIdx.x / kLanes];
  const GateOptions& options = task.options;
  const int experts = static_cast<int>(options.experts);
  const int topk = static_cast<int>(options.topk);
  score(lane, task, task.logits + index * experts, row);
  open_groups(lane, options, row);
  for (int k = 0; k < topk; ++k) {
    const int expert = best_open(lane, experts, row.choice, row.open);
    __syncwarp();
    if (lane == 0) {
      row.open[expert] = 0;
      row.taken[expert] = 1;
    }
    __syncwarp();
  }
  write_ids(lane, experts, row, task.ids + index * topk, row.weights);
  const bool of_chosen = options.score == GateScore::SoftmaxOfChosen;
  if (of_chosen) softmax(lane, topk, row.weights, row.weights);
  float sum = 0.0F;
  for (int k = 0; k < topk; ++k) {
    sum += row.weights[k];
  }
  const float divisor = options.normalize && !of_chosen ? sum + 1e-20F : 1.0F;
  for (int k = lane; k < topk; k += kLanes) {
    task.weights[index * topk + k] = row.weights[k] / divisor * options.scale;
  }
}

// Four neighbouring elements as floats. REQUIRES: 4 * sizeof(T) alignment.
__device__ float4 load_four(const float* x) {
  return *reinterpret_cast<const float4*>(x);
}

__device__ float4 load_four(const detail::BF16* x) {
  const uint2 bits = *reinterpret_cast<const uint2*>(x);
  return {
      __uint_as_float(bits.x << 16U),
      __uint_as_float(bits.x & 0xFFFF0000U),
      __uint_as_float(bits.y << 16U),
      __uint_as_float(bits.y & 0xFFFF0000U),
  };
}

// Up to four elements from x on, zeros past `count`.
template <typename T>
__device__ float4 load_some(const T* x, int count) {
  return {
      detail::to_float(x[0]),
      count > 1 ? detail::to_float(x[1]) : 0.0F,
      count > 2 ? detail::to_float(x[2]) : 0.0F,
      count > 3 ? detail::to_float(x[3]) : 0.0F,
  };
}

__device__ float add_four(const float4& a, const float4& b, float sum) {
  sum = fmaf(a.x, b.x, sum);
  sum = fmaf(a.y, b.y, sum);
  sum = fmaf(a.z, b.z, sum);
  return fmaf(a.w, b.w, sum);
}

// A warp takes kGateExperts experts and kGateRows rows; its lanes take turns over the inputs, four
// at a time. kWhole: inputs and strides are multiples of four.
template <typename T, bool kWhole>
__global__ void __launch_bounds__(kWarps* kLanes) multiply_gate(const GateLogitsTask task) {
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const std::int64_t warp = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / kLanes;
  const std::int64_t experts = task.weight.outputs;
  const std::int64_t first_expert = warp * kGateExperts;
  const std::int64_t first_row = static_cast<std::int64_t>(blockIdx.y) * kGateRows;
  if (first_expert >= experts) return;
  // What lies outside repeats the last one inside; its sums go nowhere.
  const T* x[kGateRows];
  for (int r = 0; r < kGateRows; ++r) {
    const std::int64_t row = first_row + r < task.rows ? first_row + r : task.rows - 1;
    x[r] = static_cast<const T*>(task.x.data) + row * task.x.stride;
  }
  const float* weight[kGateExperts];
  for (int e = 0; e < kGateExperts; ++e) {
    const std::int64_t expert = first_expert + e < experts ? first_expert + e : experts - 1;
    weight[e] = reinterpret_cast<const float*>(task.weight.codes + expert * task.weight.row_bytes);
  }
  float sums[kGateRows][kGateExperts] = {};
  const auto inputs = static_cast<int>(task.weight.inputs);
#pragma unroll 4
  for (int i = lane * 4; i < inputs; i += kLanes * 4) {
    float4 w[kGateExperts];
    for (int e = 0; e < kGateExperts; ++e) {
      w[e] = kWhole ? load_four(weight[e] + i) : load_some(weight[e] + i, inputs - i);
    }
    for (int r = 0; r < kGateRows; ++r) {
      const float4 value = kWhole ? load_four(x[r] + i) : load_some(x[r] + i, inputs - i);
      for (int e = 0; e < kGateExperts; ++e) {
        sums[r][e] = add_four(value, w[e], sums[r][e]);
      }
    }
  }
  for (int r = 0; r < kGateRows; ++r) {
    for (int e = 0; e < kGateExperts; ++e) {
      const float sum = detail::warp_sum(sums[r][e]);
      const std::int64_t expert = first_expert + e;
      if (lane != 0 || expert >= experts || first_row + r >= task.rows) continue;
      const float bias = task.bias == nullptr ? 0.0F : task.bias[expert];
      task.logits[(first_row + r) * experts + expert] = sum + bias;
    }
  }
}

// The expert of choice `index`, or none (-1) for a row that is left out.
__device__ int choice_at(const GroupByExpertTask& task, std::int64_t index) {
  if (index >= task.rows * task.topk || task.positions[index / task.topk] < 0) return -1;
  return task.ids[index];
}

__global__ void __launch_bounds__(kGroupThreads) group_lines(const GroupByExpertTask task) {
  constexpr int kGroupWarps = kGroupThreads / kLanes;
  __shared__ int found[kGroupWarps];
  const int expert = static_cast<int>(blockIdx.x);
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int warp = static_cast<int>(threadIdx.x) / kLanes;
  const std::int64_t choices = task.rows * task.topk;

  // Lines of the experts before this one.
  int lower = 0;
  for (std::int64_t first = 0; first < choices; first += kGroupThreads) {
    const int id = choice_at(task, first + threadIdx.x);
    lower += __syncthreads_count(id >= 0 && id < expert);
  }
  int line = lower;
  for (std::int64_t first = 0; first < choices; first += kGroupThreads) {
    const std::int64_t index = first + threadIdx.x;
    const bool mine = choice_at(task, index) == expert;
    const unsigned mask = __ballot_sync(kAllLanes, mine);
    if (lane == 0) found[warp] = __popc(mask);
    __syncthreads();
    int at = line + __popc(mask & ((1U << static_cast<unsigned>(lane)) - 1U));
    for (int other = 0; other < kGroupWarps; ++other) {
      at += other < warp ? found[other] : 0;
      line += found[other];
    }
    if (mine) {
      task.x_rows[at] = static_cast<std::int32_t>(index / task.topk);
      task.line_of[index] = at;
    }
    __syncthreads();
  }
  const bool last = expert + 1 == task.experts;
  if (threadIdx.x == 0) {
    task.starts[expert] = lower;
    if (last) task.starts[expert + 1] = line;
    if (task.chosen != nullptr) task.chosen[expert] += static_cast<std::uint64_t>(line - lower);
  }
  if (!last) return;
  for (std::int64_t index = threadIdx.x; index < choices; index += kGroupThreads) {
    if (index >= line) task.x_rows[index] = 0;
    if (choice_at(task, index) < 0) task.line_of[index] = 0;
  }
}

}  // namespace

void gate_logits(device::cuda::Stream& stream, const GateLogitsTask& task) {
  PLEIAD_CHECK(task.weight.format == WeightFormat::Plain);
  PLEIAD_CHECK(task.weight.compute == Compute::Float32);
  if (task.rows == 0) return;
  const dim3 grid(
      blocks_for(task.weight.outputs, kGateExperts * kWarps), blocks_for(task.rows, kGateRows)
  );
  detail::with_element(task.x.dtype, [&](auto element) {
    using T = decltype(element);
    if (task.weight.inputs % 4 == 0 && task.x.stride % 4 == 0) {
      multiply_gate<T, true><<<grid, kWarps * kLanes, 0, stream.handle()>>>(task);
    } else {
      multiply_gate<T, false><<<grid, kWarps * kLanes, 0, stream.handle()>>>(task);
    }
  });
  stream.launched("gate_logits", task.rows, task.weight.outputs);
}

void select_experts(device::cuda::Stream& stream, const SelectExpertsTask& task) {
  const GateOptions& options = task.options;
  PLEIAD_CHECK(options.experts > 0 && options.experts <= kExpertsMax);
  PLEIAD_CHECK(options.groups > 0 && options.groups <= kTopkMax);
  PLEIAD_CHECK(options.experts % options.groups == 0);
  PLEIAD_CHECK(options.topk_groups > 0 && options.topk_groups <= options.groups);
  const std::int64_t eligible = options.experts / options.groups * options.topk_groups;
  PLEIAD_CHECK(options.topk > 0 && options.topk <= eligible && options.topk <= kTopkMax);
  if (task.rows == 0) return;
  select_rows<<<blocks_for(task.rows, kWarps), kWarps * kLanes, 0, stream.handle()>>>(task);
  stream.launched("select_experts", task.rows, options.experts);
}

void group_by_expert(device::cuda::Stream& stream, const GroupByExpertTask& task) {
  PLEIAD_CHECK(task.positions != nullptr && task.experts > 0);
  group_lines<<<static_cast<unsigned>(task.experts), kGroupThreads, 0, stream.handle()>>>(task);
  stream.launched("group_by_expert", task.rows, task.experts);
}

}  // namespace pleiad::kernels::cuda
