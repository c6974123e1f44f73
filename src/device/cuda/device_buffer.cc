#include "device/cuda/device_buffer.h"

#include <cuda_runtime_api.h>

#include "device/cuda/cuda_error.h"

namespace pleiad::device::cuda {

Result<DeviceBuffer>
DeviceBuffer::allocate(std::size_t bytes, std::string_view what, std::string_view remedy) {
  if (bytes == 0) return DeviceBuffer();
  void* memory = nullptr;
  const cudaError_t status = cudaMalloc(&memory, bytes);
  if (status == cudaErrorMemoryAllocation) {
    static_cast<void>(cudaGetLastError());
    std::size_t free_bytes = 0;
    std::size_t total_bytes = 0;
    PLEIAD_TRY(checked(cudaMemGetInfo(&free_bytes, &total_bytes), "asking for free GPU memory"));
    return exhausted(
        "{} need {:.2f} GiB of GPU memory, {:.2f} of {:.2f} GiB are free{}{}",
        what,
        gib(bytes),
        gib(free_bytes),
        gib(total_bytes),
        remedy.empty() ? "" : "; ",
        remedy
    );
  }
  PLEIAD_TRY(checked(status, what));
  return DeviceBuffer(static_cast<std::byte*>(memory), bytes);
}

DeviceBuffer::~DeviceBuffer() {
  if (data_ != nullptr) static_cast<void>(cudaFree(data_));
}

Result<PinnedBuffer> PinnedBuffer::allocate(std::size_t bytes, std::string_view what) {
  if (bytes == 0) return PinnedBuffer();
  void* memory = nullptr;
  const cudaError_t status = cudaHostAlloc(&memory, bytes, cudaHostAllocDefault);
  if (status == cudaErrorMemoryAllocation) {
    static_cast<void>(cudaGetLastError());
    return exhausted("{}: the system refuses to pin {} MiB of memory", what, bytes >> 20U);
  }
  PLEIAD_TRY(checked(status, what));
  return PinnedBuffer(static_cast<std::byte*>(memory), bytes);
}

PinnedBuffer::~PinnedBuffer() {
  if (data_ != nullptr) static_cast<void>(cudaFreeHost(data_));
}

}  // namespace pleiad::device::cuda
