#pragma once

#include <cuda.h>
#include <driver_types.h>

#include "kernels/cuda/detail/grouped_gemm_arguments.h"
#include "kernels/cuda/grouped_gemm_types.h"

namespace pleiad::kernels::cuda::hopper {

// A launch as the host has described and chosen it.
struct GroupedLaunch {
  GroupedArguments arguments;
  CUtensorMap rows_64{};  // boxes of 64 and of 8 activation rows; unused when gathered
  CUtensorMap rows_8{};
  GroupedTile tile;
  std::int32_t blocks = 0;
  bool gathered = false;
  bool overlap = false;
  cudaStream_t stream = nullptr;
};

// One for each format and output.
cudaError_t launch_grouped_bf16_rounded(const GroupedLaunch& launch);
cudaError_t launch_grouped_bf16_float(const GroupedLaunch& launch);
cudaError_t launch_grouped_bf16_swiglu(const GroupedLaunch& launch);
cudaError_t launch_grouped_fp8_rounded(const GroupedLaunch& launch);
cudaError_t launch_grouped_fp8_float(const GroupedLaunch& launch);
cudaError_t launch_grouped_fp8_swiglu(const GroupedLaunch& launch);

cudaError_t launch_pack(const PackGroupedTask& task, cudaStream_t stream);

}  // namespace pleiad::kernels::cuda::hopper
