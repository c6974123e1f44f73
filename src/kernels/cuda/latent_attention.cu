#include <cuda_runtime.h>

#include "kernels/cuda/detail/fast_attention.h"
#include "kernels/cuda/detail/latent_attention.cuh"

namespace pleiad::kernels::cuda::hopper {

void latent_attention(device::cuda::Stream& stream, const FastAttention& task) {
  const auto* kernel = reinterpret_cast<const void*>(latent_attention_kernel);
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, LatentShared::kBytes);
  latent_attention_kernel<<<
      static_cast<unsigned>(task.blocks),
      LatentAttention::kThreads,
      LatentShared::kBytes,
      stream.handle()>>>(task.arguments, task.map);
}

}  // namespace pleiad::kernels::cuda::hopper
