#include <algorithm>

#include "base/check.h"
#include "kernels/cuda/detail/four.cuh"
#include "kernels/cuda/detail/hopper.cuh"
#include "kernels/cuda/detail/launch.cuh"
#include "kernels/cuda/tree_combine.h"
#include "kernels/tree_combine.h"

// A block per row, four columns a thread at a time: a row's lines are read once, the residual is
// read and written. What a thread needs of two rounds of columns is on its way to shared memory
// while the merges are planned; it comes back to the thread that sent for it, so nobody waits for
// anybody.
namespace pleiad::kernels::cuda {
namespace {

using device::DType;

constexpr unsigned kThreadsMax = 256;  // detail::norm_threads()' most
constexpr unsigned kFewRows = 64;
constexpr int kRounds = 2;  // of columns under way

// A merge of two slots: `from` goes into `into`.
struct Merge {
  unsigned char into;
  unsigned char from;
};

// How high the node that joins two neighbours stands: one more than their highest differing bit.
__device__ int level_between(std::int32_t a, std::int32_t b) {
  return 32 - __clz(static_cast<int>(a ^ b));
}

__device__ float4 node(const float4& a, float factor) {
  return {a.x * factor, a.y * factor, a.z * factor, a.w * factor};
}

// The merges of a row's leaves, and where the leaves are.
struct RowPlan {
  Merge merges[kTopkMax];
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

// Where a row's leaves are, and what they are worth. By one warp.
__device__ void read_row(const CombineTask& task, std::int64_t row, RowPlan& plan) {
  const int lines = static_cast<int>(task.topk + task.shared_experts);
  for (int k = static_cast<int>(threadIdx.x) % 32; k < lines; k += 32) {
    plan.ids[k] = fresh(task.ids + row * lines + k);
    plan.lines[k] = fresh(task.line_of + row * lines + k);
    plan.weights[k] = fresh(task.weights + row * lines + k);
  }
  __syncwarp();
}

// Leaves are neighbours in id order, so a node is a run of them, kept in the slot of its first
// leaf: gaps between neighbours are joined from the lowest level up, equal levels from the left. A
// gap's turn is the number of gaps before it. By one warp.
__device__ void plan_merges(int topk, RowPlan& plan) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
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
    plan.merges[turn] = {
        .into = static_cast<unsigned char>(first), .from = static_cast<unsigned char>(gap + 1)};
  }
}

// Four neighbouring values of T.
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

// What one thread needs for four columns: T activations; L the lines' elements.
template <typename T, typename L>
struct Columns {
  Four<float>* residual;
  Four<T>* add;
  Four<L>* leaves;  // of the row's lines, blockDim apart
};

// Bytes of Columns for all threads.
template <typename T, typename L>
__host__ __device__ constexpr std::size_t columns_bytes(std::int64_t lines, unsigned threads) {
  return threads * (sizeof(Four<float>) + sizeof(Four<T>) +
                    static_cast<std::size_t>(lines) * sizeof(Four<L>));
}

template <typename T, typename L>
__device__ Columns<T, L> columns_at(unsigned char* memory, std::int64_t lines, int round) {
  unsigned char* begin = memory + (round % kRounds) * columns_bytes<T, L>(lines, blockDim.x);
  auto* residual = reinterpret_cast<Four<float>*>(begin);
  auto* leaves = reinterpret_cast<Four<L>*>(residual + blockDim.x);
  auto* add = reinterpret_cast<Four<T>*>(leaves + lines * blockDim.x);
  return {
      .residual = residual + threadIdx.x, .add = add + threadIdx.x, .leaves = leaves + threadIdx.x};
}

// Starts bringing up to four elements to shared memory, zeros behind them.
template <bool kWhole, typename T>
__device__ void bring(Four<T>* to, const T* from, std::int64_t count) {
  if constexpr (kWhole) {
    hopper::copy_async<sizeof(Four<T>)>(hopper::shared_address(to), from);
  } else {
    *to = Four<T>::of(detail::load_some(from, count));
  }
}

template <typename T, typename L, bool kWhole>
__device__ void bring_columns(
    const CombineTask& task,
    const RowPlan& plan,
    std::int64_t row,
    std::int64_t column,
    const Columns<T, L>& to
) {
  const std::int64_t left = task.hidden - column;
  if (left > 0) {
    bring<kWhole>(to.residual, task.residual + row * task.hidden + column, left);
    if (const T* add = static_cast<const T*>(task.add.data); add != nullptr) {
      bring<kWhole>(to.add, add + row * task.add.stride + column, left);
    }
    const auto count = static_cast<int>(task.topk + task.shared_experts);
    const L* lines = static_cast<const L*>(task.lines.data) + column;
#pragma unroll 4
    for (int k = 0; k < count; ++k) {
      const L* line = lines + plan.lines[k] * task.lines.stride;
      bring<kWhole>(to.leaves + k * blockDim.x, line, left);
    }
  }
  hopper::copy_async_commit();
}

// A leaf of the row, weighted and rounded.
template <typename T, typename L>
__device__ float4 leaf_of(const RowPlan& plan, const Columns<T, L>& columns, int k) {
  const float4 value = columns.leaves[k * blockDim.x].floats();
  if constexpr (sizeof(L) < sizeof(float)) {
    return value;
  } else {
    return detail::rounded_four<T>(node(value, plan.weights[k]));
  }
}

// The sum of the experts' four columns: the tree's, and the shared experts'. Nodes take their
// leaves' places: rounded as they are, they lose nothing there.
template <typename T, typename L, bool kWhole>
__device__ float4 sum_of_experts(
    const CombineTask& task,
    const RowPlan& plan,
    std::int64_t row,
    std::int64_t column,
    const Columns<T, L>& columns
) {
  const int topk = static_cast<int>(task.topk);
  if constexpr (sizeof(L) == sizeof(float)) {
    for (int k = 0; k < topk; ++k) {
      columns.leaves[k * blockDim.x] = Four<L>::of(leaf_of(plan, columns, k));
    }
  }
  for (int merge = 0; merge + 1 < topk; ++merge) {
    const Merge slots = plan.merges[merge];
    Four<L>& into = columns.leaves[slots.into * blockDim.x];
    const Four<L>& from = columns.leaves[slots.from * blockDim.x];
    into = Four<L>::of(detail::rounded_four<T>(detail::plus(into.floats(), from.floats())));
  }
  const float4 tree = columns.leaves[0].floats();
  const int lines = topk + static_cast<int>(task.shared_experts);
  if (lines == topk && task.shared.data == nullptr) return tree;
  float4 shared;
  if (lines > topk) {
    shared = leaf_of(plan, columns, topk);
    for (int k = topk + 1; k < lines; ++k) {
      shared = detail::plus(shared, leaf_of(plan, columns, k));
    }
  } else {
    const auto* of_row = static_cast<const float*>(task.shared.data) + row * task.shared.stride;
    shared = detail::load<kWhole>(of_row + column, task.hidden - column);
  }
  return detail::rounded_four<T>(detail::plus(tree, shared));
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
  extern __shared__ float4 values[];  // the row's sums, [hidden / 4]; behind them columns
  __shared__ RowPlan plan;
  __shared__ float sums[detail::kWarp];
  detail::let_next_begin();
  prefetch_norm(task);
  if (!task.settled) detail::wait_for_earlier_work();
  const std::int64_t row = blockIdx.x;
  const bool is_out = fresh(task.positions + row) < 0;
  // With few rows there is time before the lines are there; with many, while they are under way.
  const bool plans_first = gridDim.x <= kFewRows;
  const int topk = static_cast<int>(task.topk);
  if (!is_out && threadIdx.x < detail::kWarp) {
    read_row(task, row, plan);
    if (plans_first) plan_merges(topk, plan);
  }
  if (task.settled) detail::wait_for_earlier_work();
  if (is_out) return;
  __syncthreads();
  auto* memory = reinterpret_cast<unsigned char*>(values + (task.hidden + 3) / 4);
  const std::int64_t lines = task.topk + task.shared_experts;
  const std::int64_t first = std::int64_t{threadIdx.x} * 4;
  const std::int64_t step = std::int64_t{blockDim.x} * 4;
  const auto fetch = [&](int round) {
    const auto columns = columns_at<T, L>(memory, lines, round);
    bring_columns<T, L, kWhole>(task, plan, row, first + round * step, columns);
  };
  for (int round = 0; round < kRounds; ++round) {
    fetch(round);
  }
  if (!plans_first) {
    if (threadIdx.x < detail::kWarp) plan_merges(topk, plan);
    __syncthreads();
  }
  float* residual = task.residual + row * task.hidden;
  float sum = 0.0F;
  int round = 0;
  for (std::int64_t i = first; i < task.hidden; i += step, ++round) {
    hopper::copy_async_wait<kRounds - 1>();
    const auto columns = columns_at<T, L>(memory, lines, round);
    float4 value = columns.residual->floats();
    if (task.add.data != nullptr) value = detail::plus(value, columns.add->floats());
    value = detail::plus(value, sum_of_experts<T, L, kWhole>(task, plan, row, i, columns));
    detail::store<kWhole>(residual + i, value, task.hidden - i);
    values[i / 4] = value;
    sum = detail::add_four(value, value, sum);
    fetch(round + kRounds);
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

// As many as the row's width asks for and as have room for their columns.
template <typename T, typename L>
unsigned threads_of(const CombineTask& task) {
  constexpr std::size_t kColumnsBytes = 160 * 1024;
  const std::size_t of_one = kRounds * columns_bytes<T, L>(task.topk + task.shared_experts, 1);
  const auto most = static_cast<unsigned>(kColumnsBytes / of_one / detail::kWarp * detail::kWarp);
  return std::max(std::min(detail::norm_threads(task.hidden), most), detail::kWarp);
}

template <typename T, typename L>
void launch_combine(device::cuda::Stream& stream, const CombineTask& task) {
  const dim3 grid(static_cast<unsigned>(task.rows));
  const unsigned threads = threads_of<T, L>(task);
  const std::size_t shared =
      kRounds * columns_bytes<T, L>(task.topk + task.shared_experts, threads) +
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
