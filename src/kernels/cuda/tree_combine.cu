#include <algorithm>

#include "base/check.h"
#include "kernels/cuda/detail/four.cuh"
#include "kernels/cuda/detail/launch.cuh"
#include "kernels/cuda/tree_combine.h"
#include "kernels/tree_combine.h"

// A block per row, four columns a thread at a time: a row's lines are read once, the residual is
// read and written.
namespace pleiad::kernels::cuda {
namespace {

using device::DType;

constexpr unsigned kThreadsMax = 256;  // detail::norm_threads()' most

// Merge m puts slot from[m] into slot into[m].
struct MergePlan {
  unsigned char into[kTopkMax];
  unsigned char from[kTopkMax];
};

// How high the node that joins two neighbours stands: one more than their highest differing bit.
__device__ int level_between(std::int32_t a, std::int32_t b) {
  return 32 - __clz(static_cast<int>(a ^ b));
}

__device__ float4 node(const float4& a, float factor) {
  return {a.x * factor, a.y * factor, a.z * factor, a.w * factor};
}

template <typename T>
__device__ float4 rounded(const float4& a) {
  return {
      detail::rounded_to<T>(a.x),
      detail::rounded_to<T>(a.y),
      detail::rounded_to<T>(a.z),
      detail::rounded_to<T>(a.w),
  };
}

// The merges of a row's leaves, and where the leaves are.
struct RowPlan {
  MergePlan merges;
  unsigned char levels[kTopkMax];
  unsigned char turns[kTopkMax];
  std::int32_t ids[kTopkMax];
  std::int32_t lines[kTopkMax];
  float weights[kTopkMax];
};

// A value that other multiprocessors wrote, past this one's own cache.
template <typename T>
__device__ T fresh(const T* at) {
  return __ldcg(at);
}

// Leaves are neighbours in id order, so a node is a run of them, kept in the slot of its first
// leaf: gaps between neighbours are joined from the lowest level up, equal levels from the left. A
// gap's turn is the number of gaps before it. By one warp.
__device__ void plan_row(const CombineTask& task, std::int64_t row, RowPlan& plan) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int topk = static_cast<int>(task.topk);
  const int lines = topk + static_cast<int>(task.shared_experts);
  for (int k = lane; k < lines; k += 32) {
    plan.ids[k] = fresh(task.ids + row * lines + k);
    plan.lines[k] = fresh(task.line_of + row * lines + k);
    plan.weights[k] = fresh(task.weights + row * lines + k);
  }
  __syncwarp();
  for (int gap = lane; gap + 1 < topk; gap += 32) {
    plan.levels[gap] = static_cast<unsigned char>(level_between(plan.ids[gap], plan.ids[gap + 1]));
  }
  __syncwarp();
  for (int gap = lane; gap + 1 < topk; gap += 32) {
    const int level = plan.levels[gap];
    int turn = 0;
    for (int other = 0; other + 1 < topk; ++other) {
      const int theirs = plan.levels[other];
      turn += theirs < level || (theirs == level && other < gap) ? 1 : 0;
    }
    plan.turns[gap] = static_cast<unsigned char>(turn);
  }
  __syncwarp();
  for (int gap = lane; gap + 1 < topk; gap += 32) {
    const int turn = plan.turns[gap];
    int first = gap;
    while (first > 0 && plan.turns[first - 1] < turn) {
      --first;
    }
    plan.merges.into[turn] = static_cast<unsigned char>(first);
    plan.merges.from[turn] = static_cast<unsigned char>(gap + 1);
  }
}

// Four values of T, as small as they are.
template <typename T>
struct alignas(4 * sizeof(T)) Four {
  T values[4];

  __device__ static Four of(const float4& four) {
    Four out;
    detail::store_four(out.values, four);
    return out;
  }
  __device__ float4 floats() const { return detail::load_four(values); }
};

// Four columns of a line, weighted and rounded. T: activations; L: the line's elements.
template <typename T, typename L, bool kWhole>
__device__ float4
leaf_of(const CombineTask& task, std::int32_t line, float weight, std::int64_t at) {
  const auto* lines = static_cast<const L*>(task.lines.data) + line * task.lines.stride;
  const float4 value = detail::load<kWhole>(lines + at, task.hidden - at);
  if constexpr (sizeof(L) < sizeof(float)) {
    return value;
  } else {
    return rounded<T>(node(value, weight));
  }
}

// The sum of four columns: the tree's, and the shared experts'. `leaf`: this thread's part of the
// leaves, blockDim apart; rounded as they are, they lose nothing there.
template <typename T, typename L, bool kWhole>
__device__ float4 sum_of_row(
    const CombineTask& task,
    const RowPlan& plan,
    std::int64_t row,
    std::int64_t column,
    Four<T>* leaf
) {
  const int topk = static_cast<int>(task.topk);
#pragma unroll 8
  for (int k = 0; k < topk; ++k) {
    leaf[k * blockDim.x] =
        Four<T>::of(leaf_of<T, L, kWhole>(task, plan.lines[k], plan.weights[k], column));
  }
  for (int merge = 0; merge + 1 < topk; ++merge) {
    Four<T>& into = leaf[plan.merges.into[merge] * blockDim.x];
    const Four<T>& from = leaf[plan.merges.from[merge] * blockDim.x];
    into = Four<T>::of(detail::plus(into.floats(), from.floats()));
  }
  const float4 tree = leaf[0].floats();
  const int lines = topk + static_cast<int>(task.shared_experts);
  if (lines == topk && task.shared.data == nullptr) return tree;
  float4 shared;
  if (lines > topk) {
    shared = leaf_of<T, L, kWhole>(task, plan.lines[topk], plan.weights[topk], column);
    for (int k = topk + 1; k < lines; ++k) {
      shared =
          detail::plus(shared, leaf_of<T, L, kWhole>(task, plan.lines[k], plan.weights[k], column));
    }
  } else {
    const auto* of_row = static_cast<const float*>(task.shared.data) + row * task.shared.stride;
    shared = detail::load<kWhole>(of_row + column, task.hidden - column);
  }
  return rounded<T>(detail::plus(tree, shared));
}

// Brings the norm's weights into the second-level cache.
__device__ void prefetch_norm(const CombineTask& task) {
  constexpr int kLineFloats = 32;
  const std::int64_t at = std::int64_t{threadIdx.x} * kLineFloats;
  if (task.norm == nullptr || at >= task.hidden) return;
  asm volatile("prefetch.global.L2 [%0];" ::"l"(task.norm + at));
}

// The norm adds as rms_norm does.
template <typename T, typename L, bool kWhole>
__global__ void __launch_bounds__(kThreadsMax, 5) combine(const CombineTask task) {
  extern __shared__ float4 values[];  // the row's sums, [hidden / 4]; behind them leaves
  __shared__ RowPlan plan;
  __shared__ float sums[detail::kWarp];
  detail::let_next_begin();
  prefetch_norm(task);
  if (!task.settled) detail::wait_for_earlier_work();
  const std::int64_t row = blockIdx.x;
  const bool is_out = fresh(task.positions + row) < 0;
  if (!is_out && threadIdx.x < detail::kWarp) plan_row(task, row, plan);
  if (task.settled) detail::wait_for_earlier_work();
  if (is_out) return;
  __syncthreads();
  float* residual = task.residual + row * task.hidden;
  const T* add = static_cast<const T*>(task.add.data);
  auto* leaves = reinterpret_cast<Four<T>*>(values + (task.hidden + 3) / 4);  // [topk, blockDim]
  const std::int64_t first = std::int64_t{threadIdx.x} * 4;
  const std::int64_t step = std::int64_t{blockDim.x} * 4;
  float sum = 0.0F;
  for (std::int64_t i = first; i < task.hidden; i += step) {
    const std::int64_t left = task.hidden - i;
    float4 value = detail::load<kWhole>(residual + i, left);
    if (add != nullptr) {
      value = detail::plus(value, detail::load<kWhole>(add + row * task.add.stride + i, left));
    }
    const float4 experts = sum_of_row<T, L, kWhole>(task, plan, row, i, leaves + threadIdx.x);
    value = detail::plus(value, experts);
    detail::store<kWhole>(residual + i, value, left);
    values[i / 4] = value;
    sum = detail::add_four(value, value, sum);
  }
  if (task.norm == nullptr) return;
  sum = detail::block_sum(sum, sums);
  const float factor = 1.0F / sqrtf(sum / static_cast<float>(task.hidden) + task.epsilon);
  T* y = static_cast<T*>(task.y.data) + row * task.y.stride;
  for (std::int64_t i = first; i < task.hidden; i += step) {
    const std::int64_t left = task.hidden - i;
    const float4 weight = detail::load<kWhole>(task.norm + i, left);
    detail::store<kWhole>(y + i, detail::scaled(values[i / 4], factor, weight), left);
  }
}

// As many as the row's width asks for and as have room for their leaves.
unsigned threads_of(const CombineTask& task) {
  constexpr std::int64_t kLeafBytes = 160 * 1024;
  const std::int64_t room = kLeafBytes / (task.topk * static_cast<std::int64_t>(sizeof(float4)));
  const auto most = static_cast<unsigned>(room / detail::kWarp * detail::kWarp);
  return std::max(std::min(detail::norm_threads(task.hidden), most), detail::kWarp);
}

template <typename T, typename L>
void launch_combine(device::cuda::Stream& stream, const CombineTask& task) {
  const dim3 grid(static_cast<unsigned>(task.rows));
  const unsigned threads = threads_of(task);
  const std::size_t shared = static_cast<std::size_t>(task.topk) * threads * sizeof(Four<T>) +
                             static_cast<std::size_t>(task.hidden + 3) / 4 * sizeof(float4);
  const bool whole = task.hidden % 4 == 0 && task.lines.stride % 4 == 0 &&
                     task.shared.stride % 4 == 0 && task.add.stride % 4 == 0 &&
                     task.y.stride % 4 == 0;
  const auto kernel = whole ? combine<T, L, true> : combine<T, L, false>;
  detail::launch(stream, kernel, grid, threads, shared, task);
}

}  // namespace

void tree_combine(device::cuda::Stream& stream, const CombineTask& task) {
  PLEIAD_CHECK(task.topk > 0 && task.topk + task.shared_experts <= kTopkMax);
  PLEIAD_CHECK(task.positions != nullptr && task.hidden <= kCombineHiddenMax);
  PLEIAD_CHECK(task.lines.dtype == DType::F32 || task.lines.dtype == task.activation);
  PLEIAD_CHECK(task.shared.data == nullptr || task.shared.dtype == DType::F32);
  PLEIAD_CHECK(task.shared.data == nullptr || task.shared_experts == 0);
  PLEIAD_CHECK(task.add.data == nullptr || task.add.dtype == task.activation);
  PLEIAD_CHECK(task.norm == nullptr || task.y.dtype == task.activation);
  if (task.rows == 0) return;
  if (task.activation == DType::F32) {
    launch_combine<float, float>(stream, task);
  } else if (task.lines.dtype == DType::F32) {
    launch_combine<detail::BF16, float>(stream, task);
  } else {
    launch_combine<detail::BF16, detail::BF16>(stream, task);
  }
  stream.launched("tree_combine", task.rows, task.hidden);
}

}  // namespace pleiad::kernels::cuda
