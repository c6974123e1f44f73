#include "device/cuda/gpus.h"

#include <cuda_runtime_api.h>

#include "base/check.h"
#include "device/cuda/cuda_error.h"

namespace pleiad::device::cuda {

bool built_with_cuda() {
  return true;
}

Result<int> gpu_count() {
  int count = 0;
  PLEIAD_TRY(checked(cudaGetDeviceCount(&count), "--device cuda"));
  if (count == 0) return not_found("--device cuda: this machine has no NVIDIA GPU");
  return count;
}

Result<Gpu> find_gpu(int index) {
  PLEIAD_TRY(count, gpu_count());
  if (index < 0 || index >= count) {
    return not_found(
        "--device cuda:{}: there is no such GPU; this machine has cuda:0{}",
        index,
        count > 1 ? fmt::format(" to cuda:{}", count - 1) : ""
    );
  }
  cudaDeviceProp properties{};
  PLEIAD_TRY(checked(cudaGetDeviceProperties(&properties, index), "asking for the GPU's kind"));
  Gpu gpu{
      .index = index,
      .name = properties.name,
      .capability = properties.major * 10 + properties.minor,
      .multiprocessors = properties.multiProcessorCount,
      .memory_bytes = properties.totalGlobalMem,
      .l2_bytes = static_cast<std::size_t>(properties.l2CacheSize),
  };
  PLEIAD_TRY(check_capability(gpu));
  PLEIAD_TRY(checked(cudaSetDevice(index), "choosing the GPU"));
  std::size_t total = 0;
  PLEIAD_TRY(checked(cudaMemGetInfo(&gpu.free_bytes, &total), "asking for free GPU memory"));
  return gpu;
}

Result<void> check_capability(const Gpu& gpu) {
  if (gpu.capability == kCapability) return {};
  return unsupported(
      "--device cuda:{}: {} has compute capability {}.{}; the kernels are for {}.{}",
      gpu.index,
      gpu.name,
      gpu.capability / 10,
      gpu.capability % 10,
      kCapability / 10,
      kCapability % 10
  );
}

int multiprocessors_of(int gpu) {
  int count = 0;
  const cudaError_t status = cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, gpu);
  PLEIAD_CHECK(status == cudaSuccess && count > 0, "a GPU that is there");
  return count;
}

}  // namespace pleiad::device::cuda
