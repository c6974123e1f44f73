#include "base/check.h"
#include "kernels/cuda/detail/group_lines.cuh"
#include "kernels/cuda/detail/launch.cuh"
#include "kernels/cuda/expert_groups.h"
#include "kernels/expert_gate.h"

namespace pleiad::kernels::cuda {
namespace {

using detail::kChunkThreads;

__global__ void __launch_bounds__(kChunkThreads) group_at_once(const GroupByExpertTask task) {
  extern __shared__ int shared[];
  detail::let_next_begin();
  detail::wait_for_earlier_work();
  detail::group_in_block(task, shared);
}

// Counts of each chunk, [chunks, experts].
__global__ void __launch_bounds__(kChunkThreads) count_chunk(const GroupByExpertTask task) {
  extern __shared__ int counts[];  // [experts]
  detail::let_next_begin();
  detail::wait_for_earlier_work();
  const int experts = static_cast<int>(task.experts);
  for (int e = static_cast<int>(threadIdx.x); e < experts; e += kChunkThreads) {
    counts[e] = 0;
  }
  __syncthreads();
  const int index = static_cast<int>(blockIdx.x) * kChunkThreads + static_cast<int>(threadIdx.x);
  const int expert = detail::choice_at(task, index);
  if (expert >= 0) atomicAdd(&counts[expert], 1);
  __syncthreads();
  for (int e = static_cast<int>(threadIdx.x); e < experts; e += kChunkThreads) {
    task.scratch[static_cast<int>(blockIdx.x) * experts + e] = counts[e];
  }
}

// Places of a chunk's choices behind those of the chunks before it.
__global__ void __launch_bounds__(kChunkThreads) place_chunk(const GroupByExpertTask task) {
  extern __shared__ int shared[];
  detail::let_next_begin();
  detail::wait_for_earlier_work();
  const int experts = static_cast<int>(task.experts);
  const int chunk = static_cast<int>(blockIdx.x);
  int* starts = shared;                // [experts + 1] of all chunks
  int* before = starts + experts + 1;  // [experts]: in chunks before this one
  int* counts = before + experts;      // [experts + 1]: in this one
  int* warp_counts = counts + experts + 1;
  for (int e = static_cast<int>(threadIdx.x); e < experts; e += kChunkThreads) {
    int sum = 0;
    for (int c = 0; c < static_cast<int>(gridDim.x); ++c) {
      if (c == chunk) before[e] = sum;
      sum += task.scratch[c * experts + e];
    }
    starts[1 + e] = sum;
  }
  __syncthreads();
  if (chunk == 0) detail::count_chosen(task, starts);
  __syncthreads();
  if (threadIdx.x < 32) detail::sum_starts(experts, starts);
  __syncthreads();
  const int index = chunk * kChunkThreads + static_cast<int>(threadIdx.x);
  const int expert = detail::choice_at(task, index);
  const int place = detail::place_in_chunk(expert, experts, warp_counts, counts);
  const int line = expert < 0 ? 0 : starts[expert] + before[expert] + place;
  detail::write_line(task, index, expert, line, starts[experts]);
  if (chunk != 0) return;
  for (int e = static_cast<int>(threadIdx.x); e <= experts; e += kChunkThreads) {
    task.starts[e] = starts[e];
  }
}

}  // namespace

void group_by_expert(device::cuda::Stream& stream, const GroupByExpertTask& task) {
  static_assert(kGroupedAtOnce == kChunkThreads);
  PLEIAD_CHECK(task.positions != nullptr && task.experts > 0 && task.experts <= kExpertsMax);
  PLEIAD_CHECK(task.counted <= task.experts);
  const std::int64_t choices = task.rows * task.topk;
  const auto bytes = [&](std::int64_t ints) { return static_cast<std::size_t>(ints) * 4; };
  const std::int64_t sorting = detail::chunk_ints(task.experts, detail::kChunkWarps);
  if (choices <= kGroupedAtOnce) {
    const unsigned threads = detail::blocks_for(std::max<std::int64_t>(choices, 1), 32) * 32;
    detail::launch(stream, group_at_once, dim3(1), threads, bytes(sorting), task);
  } else {
    const dim3 chunks(detail::blocks_for(choices, kGroupedAtOnce));
    detail::launch(stream, count_chunk, chunks, kChunkThreads, bytes(task.experts), task);
    const std::size_t shared = bytes(sorting + 2 * task.experts + 1);
    detail::launch(stream, place_chunk, chunks, kChunkThreads, shared, task);
  }
  stream.launched("group_by_expert", task.rows, task.experts);
}

}  // namespace pleiad::kernels::cuda
