#include <cstdint>

#include <cuda_runtime.h>

#include "kernels/cuda/detail/grouped_gemm_launch.h"

namespace pleiad::kernels::cuda::hopper {
namespace {

// One thread per 16-byte chunk of the packed form: reads it where it is stored. Once at load.
__global__ void pack_kernel(
    const uint4* stored,
    uint4* packed,
    std::int64_t chunks,
    std::int64_t outputs,
    std::int64_t row_chunks,
    GroupedLayout layout
) {
  const std::int64_t at = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (at >= chunks) return;
  const std::int64_t row = at / 8 % 128;
  const std::int64_t column = (at % 8) ^ (row % 8);
  const std::int64_t step = at / 1024 % (row_chunks / 8);
  const std::int64_t tile = at / (row_chunks * 128);  // of all experts
  const std::int64_t expert = tile / (outputs / 128);
  const std::int64_t place = tile % (outputs / 128) * 128 + row;
  const std::int64_t source = expert * outputs + grouped_stored_row(layout, outputs, place);
  packed[at] = stored[source * row_chunks + step * 8 + column];
}

}  // namespace

cudaError_t launch_pack(const PackGroupedTask& task, cudaStream_t stream) {
  constexpr std::int64_t kThreads = 256;
  const std::int64_t chunks =
      grouped_packed_bytes(task.format, task.experts, task.outputs, task.inputs) / 16;
  const std::int64_t row_chunks = task.inputs / grouped_step(task.format) * std::int64_t{8};
  const auto blocks = static_cast<unsigned>((chunks + kThreads - 1) / kThreads);
  pack_kernel<<<blocks, kThreads, 0, stream>>>(
      static_cast<const uint4*>(task.stored),
      static_cast<uint4*>(task.packed),
      chunks,
      task.outputs,
      row_chunks,
      task.layout
  );
  return cudaGetLastError();
}

}  // namespace pleiad::kernels::cuda::hopper
