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
  CUtensorMap scales_64{};  // FP8: of 64 rows' scales
  GroupedTile tile;
  std::int32_t blocks = 0;
  bool gathered = false;
  bool overlap = false;
  cudaStream_t stream = nullptr;
};

// One for each output of BFloat16 products, one for each of FP8 products.
cudaError_t launch_grouped_bf16(const GroupedLaunch& launch);
cudaError_t launch_grouped_float(const GroupedLaunch& launch);
cudaError_t launch_grouped_swiglu(const GroupedLaunch& launch);

cudaError_t launch_pack(const PackGroupedTask& task, cudaStream_t stream);

}  // namespace pleiad::kernels::cuda::hopper
