#include "kernels/cuda/detail/grouped_gemm_launch.cuh"

namespace pleiad::kernels::cuda::hopper {

cudaError_t launch_grouped_fp8_float(const GroupedLaunch& launch) {
  return launch_grouped_fp8<GroupedOutput::Float32>(launch);
}

}  // namespace pleiad::kernels::cuda::hopper
