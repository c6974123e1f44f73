#include "base/check.h"
#include "kernels/cuda/detail/device_math.cuh"
#include "kernels/cuda/tree_combine.h"
#include "kernels/tree_combine.h"

// A block per row and stretch of kThreads columns, one column a thread: topk lines are read once,
// the residual is read and written. One thread finds the order of the merges; all follow it.
namespace pleiad::kernels::cuda {
namespace {

using detail::BF16;
using detail::to_float;
using device::DType;

constexpr int kThreads = 128;

// Merge m puts slot from[m] into slot into[m].
struct MergePlan {
  unsigned char into[kTopkMax];
  unsigned char from[kTopkMax];
};

__device__ float element(const DeviceRows& rows, std::int64_t index) {
  if (rows.dtype == DType::F32) return static_cast<const float*>(rows.data)[index];
  return to_float(static_cast<const BF16*>(rows.data)[index]);
}

// How high the node that joins two neighbours stands: one more than their highest differing bit.
__device__ int level_between(std::int32_t a, std::int32_t b) {
  return 32 - __clz(static_cast<int>(a ^ b));
}

// Leaves are neighbours in id order, so a node is a run of them, kept in the slot of its first
// leaf: gaps between neighbours are joined from the lowest level up, equal levels from the left.
// `levels`: of the gaps, [count - 1].
__device__ void plan_merges(const unsigned char* levels, int count, MergePlan& plan) {
  std::uint64_t joined = 0;  // gap g, between leaves g and g + 1
  for (int merge = 0; merge + 1 < count; ++merge) {
    int gap = -1;
    for (int g = 0; g + 1 < count; ++g) {
      const bool open = (joined >> g & 1U) == 0;
      if (open && (gap < 0 || levels[g] < levels[gap])) gap = g;
    }
    int first = gap;
    while (first > 0 && (joined >> (first - 1) & 1U) != 0) {
      --first;
    }
    plan.into[merge] = static_cast<unsigned char>(first);
    plan.from[merge] = static_cast<unsigned char>(gap + 1);
    joined |= std::uint64_t{1} << gap;
  }
}

// T: the activation type.
template <typename T>
__global__ void __launch_bounds__(kThreads) combine(const CombineTask task) {
  extern __shared__ float leaves[];  // [topk, kThreads]
  __shared__ MergePlan plan;
  __shared__ unsigned char levels[kTopkMax];
  const std::int64_t row = blockIdx.x;
  if (task.positions[row] < 0) return;
  const int topk = static_cast<int>(task.topk);
  const std::int32_t* ids = task.ids + row * topk;
  if (threadIdx.x + 1 < topk) {
    const auto level = level_between(ids[threadIdx.x], ids[threadIdx.x + 1]);
    levels[threadIdx.x] = static_cast<unsigned char>(level);
  }
  __syncthreads();
  if (threadIdx.x == 0) plan_merges(levels, topk, plan);
  __syncthreads();
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.y) * kThreads + threadIdx.x;
  if (column >= task.hidden) return;
  float* leaf = leaves + threadIdx.x;
  for (int k = 0; k < topk; ++k) {
    const std::int64_t line = task.line_of[row * topk + k];
    const float value = element(task.lines, line * task.lines.stride + column);
    leaf[k * kThreads] = detail::rounded_to<T>(task.weights[row * topk + k] * value);
  }
  for (int merge = 0; merge + 1 < topk; ++merge) {
    float& into = leaf[plan.into[merge] * kThreads];
    into = detail::rounded_to<T>(into + leaf[plan.from[merge] * kThreads]);
  }
  float sum = leaf[0];
  if (task.shared.data != nullptr) {
    sum = detail::rounded_to<T>(sum + element(task.shared, row * task.shared.stride + column));
  }
  task.residual[row * task.hidden + column] += sum;
}

}  // namespace

void tree_combine(device::cuda::Stream& stream, const CombineTask& task) {
  PLEIAD_CHECK(task.topk > 0 && task.topk <= kTopkMax && task.positions != nullptr);
  if (task.rows == 0) return;
  const dim3 grid(static_cast<unsigned>(task.rows), detail::blocks_for(task.hidden, kThreads));
  const std::size_t shared = static_cast<std::size_t>(task.topk) * kThreads * sizeof(float);
  detail::with_element(task.activation, [&](auto element_type) {
    combine<decltype(element_type)><<<grid, kThreads, shared, stream.handle()>>>(task);
  });
  stream.launched("tree_combine", task.rows, task.hidden);
}

}  // namespace pleiad::kernels::cuda
