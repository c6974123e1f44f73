#include <algorithm>

#include "base/check.h"
#include "kernels/cuda/detail/four.cuh"
#include "kernels/cuda/detail/launch.cuh"
#include "kernels/cuda/tree_combine.h"
#include "kernels/tree_combine.h"

// A block per row, four columns a thread at a time: topk lines are read once, the residual is read
// and written.
namespace pleiad::kernels::cuda {
namespace {

using device::DType;

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
  std::int32_t lines[kTopkMax];
  float weights[kTopkMax];
};

// Leaves are neighbours in id order, so a node is a run of them, kept in the slot of its first
// leaf: gaps between neighbours are joined from the lowest level up, equal levels from the left. A
// thread to a gap: its turn is the number of gaps before it.
__device__ void plan_row(const CombineTask& task, std::int64_t row, RowPlan& plan) {
  const int topk = static_cast<int>(task.topk);
  const int gap = static_cast<int>(threadIdx.x);
  const std::int32_t* ids = task.ids + row * topk;
  const bool is_gap = gap + 1 < topk;
  if (gap < topk) {
    plan.lines[gap] = task.line_of[row * topk + gap];
    plan.weights[gap] = task.weights[row * topk + gap];
  }
  const int level = is_gap ? level_between(ids[gap], ids[gap + 1]) : 0;
  if (is_gap) plan.levels[gap] = static_cast<unsigned char>(level);
  __syncthreads();
  int turn = 0;
  for (int other = 0; is_gap && other + 1 < topk; ++other) {
    const int theirs = plan.levels[other];
    turn += theirs < level || (theirs == level && other < gap) ? 1 : 0;
  }
  if (is_gap) plan.turns[gap] = static_cast<unsigned char>(turn);
  __syncthreads();
  int first = gap;
  while (is_gap && first > 0 && plan.turns[first - 1] < turn) {
    --first;
  }
  if (is_gap) {
    plan.merges.into[turn] = static_cast<unsigned char>(first);
    plan.merges.from[turn] = static_cast<unsigned char>(gap + 1);
  }
  __syncthreads();
}

// The tree's sum of four columns. `leaf`: this thread's part of the leaves, blockDim apart.
template <typename T, bool kWhole>
__device__ float4 sum_of_tree(
    const CombineTask& task,
    const RowPlan& plan,
    std::int64_t row,
    std::int64_t column,
    float4* leaf
) {
  const int topk = static_cast<int>(task.topk);
  const std::int64_t left = task.hidden - column;
  const auto* lines = static_cast<const float*>(task.lines.data) + column;
#pragma unroll 8
  for (int k = 0; k < topk; ++k) {
    const float4 line = detail::load<kWhole>(lines + plan.lines[k] * task.lines.stride, left);
    leaf[k * blockDim.x] = rounded<T>(node(line, plan.weights[k]));
  }
  for (int merge = 0; merge + 1 < topk; ++merge) {
    float4& into = leaf[plan.merges.into[merge] * blockDim.x];
    into = rounded<T>(detail::plus(into, leaf[plan.merges.from[merge] * blockDim.x]));
  }
  if (task.shared.data == nullptr) return leaf[0];
  const auto* shared = static_cast<const float*>(task.shared.data) + row * task.shared.stride;
  return rounded<T>(detail::plus(leaf[0], detail::load<kWhole>(shared + column, left)));
}

// T: the activation type. The norm adds as rms_norm does.
template <typename T, bool kWhole>
__global__ void __launch_bounds__(512) combine(const CombineTask task) {
  extern __shared__ float4 leaves[];  // [topk, blockDim]
  __shared__ RowPlan plan;
  __shared__ float sums[detail::kWarp];
  detail::let_next_begin();
  detail::wait_for_earlier_work();
  const std::int64_t row = blockIdx.x;
  if (task.positions[row] < 0) return;
  plan_row(task, row, plan);
  float* residual = task.residual + row * task.hidden;
  const std::int64_t first = std::int64_t{threadIdx.x} * 4;
  const std::int64_t step = std::int64_t{blockDim.x} * 4;
  float sum = 0.0F;
  for (std::int64_t i = first; i < task.hidden; i += step) {
    const std::int64_t left = task.hidden - i;
    const float4 tree = sum_of_tree<T, kWhole>(task, plan, row, i, leaves + threadIdx.x);
    const float4 value = detail::plus(detail::load<kWhole>(residual + i, left), tree);
    detail::store<kWhole>(residual + i, value, left);
    sum = detail::add_four(value, value, sum);
  }
  if (task.norm == nullptr) return;
  sum = detail::block_sum(sum, sums);
  const float factor = 1.0F / sqrtf(sum / static_cast<float>(task.hidden) + task.epsilon);
  T* y = static_cast<T*>(task.y.data) + row * task.y.stride;
  for (std::int64_t i = first; i < task.hidden; i += step) {
    const std::int64_t left = task.hidden - i;
    const float4 value = detail::load<kWhole>(residual + i, left);
    const float4 weight = detail::load<kWhole>(task.norm + i, left);
    detail::store<kWhole>(y + i, detail::scaled(value, factor, weight), left);
  }
}

// As many as the row's width asks for and as have room for their leaves.
unsigned threads_of(const CombineTask& task) {
  constexpr std::int64_t kLeafBytes = 192 * 1024;
  const std::int64_t room = kLeafBytes / (task.topk * static_cast<std::int64_t>(sizeof(float4)));
  const auto most = static_cast<unsigned>(room / detail::kWarp * detail::kWarp);
  return std::max(std::min(detail::norm_threads(task.hidden), most), unsigned{kTopkMax});
}

}  // namespace

void tree_combine(device::cuda::Stream& stream, const CombineTask& task) {
  PLEIAD_CHECK(task.topk > 0 && task.topk <= kTopkMax && task.positions != nullptr);
  PLEIAD_CHECK(task.lines.dtype == DType::F32 && task.shared.dtype == DType::F32);
  PLEIAD_CHECK(task.norm == nullptr || task.y.dtype == task.activation);
  if (task.rows == 0) return;
  const dim3 grid(static_cast<unsigned>(task.rows));
  const unsigned threads = threads_of(task);
  const std::size_t shared = static_cast<std::size_t>(task.topk) * threads * sizeof(float4);
  const bool whole = task.hidden % 4 == 0 && task.lines.stride % 4 == 0 &&
                     task.shared.stride % 4 == 0 && task.y.stride % 4 == 0;
  detail::with_element(task.activation, [&](auto element) {
    using T = decltype(element);
    detail::launch(
        stream, whole ? combine<T, true> : combine<T, false>, grid, threads, shared, task
    );
  });
  stream.launched("tree_combine", task.rows, task.hidden);
}

}  // namespace pleiad::kernels::cuda
