#pragma once

#include <cstdint>

#include <cuda.h>

#include "device/cuda/stream.h"
#include "kernels/cuda/detail/attention_arguments.h"

// The launches behind kernels/cuda/paged_attention.h's choice.
namespace pleiad::kernels::cuda::hopper {

struct FastAttention {
  AttentionArguments arguments;
  CUtensorMap map;         // of the layer's pages
  std::int64_t width = 0;  // of values
  std::int32_t groups = 1;
  std::int32_t blocks = 0;
};

// Starts `kernel` on blocks of `threads`, in teams where the arguments say so, which may take their
// places before the work ahead of it is done. A failure stays the runtime's last error.
void launch_attention(
    device::cuda::Stream& stream,
    void (*kernel)(AttentionArguments, CUtensorMap),
    const FastAttention& task,
    std::int32_t threads,
    std::int32_t shared_bytes
);

void grouped_attention(device::cuda::Stream& stream, const FastAttention& task);
void latent_attention(device::cuda::Stream& stream, const FastAttention& task);

}  // namespace pleiad::kernels::cuda::hopper
