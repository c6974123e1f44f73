#pragma once

#include <cstddef>

#include <cuda_runtime.h>

#include "device/cuda/stream.h"

// Launches of small kernels that follow each other closely: a kernel's blocks take their places
// while the one before it ends, and wait there for its results.
namespace pleiad::kernels::cuda::detail {

// Waits until all work before this kernel on its stream is done and visible. Every thread of a
// kernel that launch() starts calls this before it touches memory.
__device__ inline void wait_for_earlier_work() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Lets the kernel behind this one take its place as soon as every block of this one has come here.
__device__ inline void let_next_begin() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// A failure stays the runtime's last error, which Stream::launched() reads.
template <typename... Parameters, typename... Values>
void launch(
    device::cuda::Stream& stream,
    void (*kernel)(Parameters...),
    dim3 grid,
    unsigned threads,
    std::size_t shared_bytes,
    const Values&... values
) {
  // What every kernel may use beside static arrays without being asked.
  constexpr std::size_t kUsualSharedBytes = 32 * 1024;
  if (shared_bytes > kUsualSharedBytes) {
    static_cast<void>(cudaFuncSetAttribute(
        reinterpret_cast<const void*>(kernel),
        cudaFuncAttributeMaxDynamicSharedMemorySize,
        static_cast<int>(shared_bytes)
    ));
  }
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream.handle();
  config.attrs = &attribute;
  config.numAttrs = 1;
  static_cast<void>(cudaLaunchKernelEx(&config, kernel, values...));
}

}  // namespace pleiad::kernels::cuda::detail
