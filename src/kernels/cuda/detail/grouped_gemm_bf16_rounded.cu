#include "kernels/cuda/detail/grouped_gemm_launch.cuh"

namespace pleiad::kernels::cuda::hopper {

cudaError_t launch_grouped_bf16_rounded(const GroupedLaunch& launch) {
  return launch_grouped_bf16<GroupedOutput::BFloat16>(launch);
}

}  // namespace pleiad::kernels::cuda::hopper
