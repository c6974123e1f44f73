// A build without the CUDA backend.
#include "device/cuda/gpus.h"

namespace pleiad::device::cuda {

bool built_with_cuda() {
  return false;
}

Result<int> gpu_count() {
  return unsupported("--device cuda: this program was built without CUDA; ./dev build cuda has it");
}

Result<Gpu> find_gpu(int) {
  PLEIAD_TRY(gpu_count());
  return Gpu{};
}

}  // namespace pleiad::device::cuda
