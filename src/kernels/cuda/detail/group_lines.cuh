#pragma once

#include <cstdint>

#include "kernels/cuda/detail/device_math.cuh"
#include "kernels/cuda/expert_groups.h"

// Sorting choices by expert, stable: a thread to a choice, chunks of a block's threads.
namespace pleiad::kernels::cuda::detail {

inline constexpr int kChunkThreads = 1024;
inline constexpr int kChunkWarps = kChunkThreads / 32;

// Shared memory of a block that sorts a chunk: [warps, experts] counts, [experts + 1] starts.
__host__ __device__ inline std::int64_t chunk_ints(std::int64_t experts, int warps) {
  return experts * warps + experts + 1;
}

// The expert of choice `index`, or none (-1) for a row that is left out, or past the last.
__device__ inline int choice_at(const GroupByExpertTask& task, int index) {
  const int topk = static_cast<int>(task.topk);
  if (index >= static_cast<int>(task.rows) * topk) return -1;
  return task.positions[index / topk] < 0 ? -1 : task.ids[index];
}

// Each thread's choice gets its place among those of its expert in the chunk; the counts of the
// chunk go to counts[1 + expert]. All threads of the block.
__device__ inline int place_in_chunk(int expert, int experts, int* warp_counts, int* counts) {
  const int threads = static_cast<int>(blockDim.x);
  const int thread = static_cast<int>(threadIdx.x);
  const int warps = threads / 32;
  int* mine = warp_counts + thread / 32 * experts;
  for (int i = thread; i < warps * experts; i += threads) {
    warp_counts[i] = 0;
  }
  __syncthreads();
  const unsigned same = __match_any_sync(kAllLanes, expert);
  const int before = __popc(same & ((1U << static_cast<unsigned>(thread % 32)) - 1U));
  if (expert >= 0 && before == 0) mine[expert] = __popc(same);
  __syncthreads();
  for (int e = thread; e < experts; e += threads) {
    int sum = 0;
    for (int warp = 0; warp < warps; ++warp) {
      const int count = warp_counts[warp * experts + e];
      warp_counts[warp * experts + e] = sum;
      sum += count;
    }
    counts[1 + e] = sum;
  }
  __syncthreads();
  return expert < 0 ? 0 : mine[expert] + before;
}

// Turns counts at starts[1 + e] into starts, by one warp: each lane sums up neighbours.
__device__ inline void sum_starts(int experts, int* starts) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int share = (experts + 31) / 32;
  const int begin = min(lane * share, experts);
  const int end = min(begin + share, experts);
  int sum = 0;
  for (int i = begin; i < end; ++i) {
    sum += starts[i + 1];
    starts[i + 1] = sum;
  }
  int before = sum;
  for (unsigned distance = 1; distance < 32; distance *= 2) {
    const int other = __shfl_up_sync(kAllLanes, before, distance);
    if (lane >= static_cast<int>(distance)) before += other;
  }
  before -= sum;
  for (int i = begin; i < end; ++i) {
    starts[i + 1] += before;
  }
  if (lane == 0) starts[0] = 0;
}

// Adds what a block counted.
__device__ inline void count_chosen(const GroupByExpertTask& task, const int* counts) {
  if (task.chosen == nullptr) return;
  for (int e = static_cast<int>(threadIdx.x); e < static_cast<int>(task.counted);
       e += static_cast<int>(blockDim.x)) {
    const auto count = static_cast<unsigned long long>(counts[1 + e]);
    auto* chosen = reinterpret_cast<unsigned long long*>(task.chosen + e);
    if (count > 0) atomicAdd(chosen, count);
  }
}

// Writes a choice's line, or what stands for none.
__device__ inline void
write_line(const GroupByExpertTask& task, int index, int expert, int line, int lines) {
  if (index >= static_cast<int>(task.rows * task.topk)) return;
  task.line_of[index] = expert < 0 ? 0 : line;
  if (expert >= 0) {
    task.x_rows[line] = index / static_cast<int>(task.topk);
    if (task.weights != nullptr) task.line_weights[line] = task.weights[index];
  }
  // Lines past the last are as many as choices that have none.
  if (index >= lines) task.x_rows[index] = 0;
}

// The choices of a step of one row, whose ids ascend: they are the lines.
__device__ inline void group_one_row(const GroupByExpertTask& task) {
  const int topk = task.positions[0] < 0 ? 0 : static_cast<int>(task.topk);
  const int index = static_cast<int>(threadIdx.x);
  for (int e = index; e <= static_cast<int>(task.experts); e += static_cast<int>(blockDim.x)) {
    int before = 0;
    bool is_chosen = false;
    for (int k = 0; k < topk; ++k) {
      before += task.ids[k] < e ? 1 : 0;
      is_chosen |= task.ids[k] == e;
    }
    task.starts[e] = before;
    if (is_chosen && task.chosen != nullptr && e < static_cast<int>(task.counted)) ++task.chosen[e];
  }
  write_line(task, index, index < topk ? task.ids[index] : -1, index, topk);
}

// All choices in one block. REQUIRES: at most blockDim of them.
__device__ inline void group_in_block(const GroupByExpertTask& task, int* shared) {
  if (task.rows == 1) {
    group_one_row(task);
    return;
  }
  const int experts = static_cast<int>(task.experts);
  int* starts = shared;
  const int index = static_cast<int>(threadIdx.x);
  const int expert = choice_at(task, index);
  const int place = place_in_chunk(expert, experts, shared + experts + 1, starts);
  count_chosen(task, starts);
  __syncthreads();
  if (threadIdx.x < 32) sum_starts(experts, starts);
  __syncthreads();
  for (int e = index; e <= experts; e += static_cast<int>(blockDim.x)) {
    task.starts[e] = starts[e];
  }
  write_line(task, index, expert, expert < 0 ? 0 : starts[expert] + place, starts[experts]);
}

}  // namespace pleiad::kernels::cuda::detail
