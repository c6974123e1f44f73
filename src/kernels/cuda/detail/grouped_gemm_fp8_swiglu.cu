#include "kernels/cuda/detail/grouped_gemm_launch.cuh"

namespace pleiad::kernels::cuda::hopper {

cudaError_t launch_grouped_fp8_swiglu(const GroupedLaunch& launch) {
  return launch_grouped_fp8<GroupedOutput::SwiGlu>(launch);
}

}  // namespace pleiad::kernels::cuda::hopper
