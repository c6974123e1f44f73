#include "kernels/cuda/detail/fast_attention.h"
#include "kernels/cuda/detail/latent_attention.cuh"

namespace pleiad::kernels::cuda::hopper {

void latent_attention(device::cuda::Stream& stream, const FastAttention& task) {
  launch_attention(
      stream, latent_attention_kernel, task, LatentAttention::kThreads, LatentShared::kBytes
  );
}

}  // namespace pleiad::kernels::cuda::hopper
