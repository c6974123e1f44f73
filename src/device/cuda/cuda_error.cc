#include "device/cuda/cuda_error.h"

#include <cuda_runtime_api.h>

namespace pleiad::device::cuda {
namespace {

// "13.0" of CUDA's 13000.
std::string version_text(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

}  // namespace

Error describe_error(cudaError_t status, int driver, std::string_view doing) {
  switch (static_cast<int>(status)) {
    case cudaErrorMemoryAllocation:
      return exhausted("{}: no GPU memory left", doing);
    case cudaErrorNoDevice:
      return not_found("{}: this machine has no NVIDIA GPU", doing);
    case cudaErrorInsufficientDriver:
      if (driver == 0) return not_found("{}: no NVIDIA driver is installed", doing);
      return unsupported(
          "{}: the NVIDIA driver is too old: it knows CUDA {}, this program needs {}",
          doing,
          version_text(driver),
          version_text(CUDART_VERSION)
      );
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorInvalidDeviceFunction:
      return unsupported(
          "{}: this program has no code for this GPU; it needs compute capability 9.0", doing
      );
    case cudaErrorInvalidDevice:
      return not_found("{}: there is no GPU of that index", doing);
    default:
      return internal_error(
          "{}: CUDA error {}, {}", doing, static_cast<int>(status), cudaGetErrorString(status)
      );
  }
}

Result<void> checked(cudaError_t status, std::string_view doing) {
  if (status == cudaSuccess) return {};
  // What the next call would otherwise be told too, unless it broke the device for good.
  static_cast<void>(cudaGetLastError());
  int driver = 0;
  static_cast<void>(cudaDriverGetVersion(&driver));
  return describe_error(status, driver, doing);
}

}  // namespace pleiad::device::cuda
