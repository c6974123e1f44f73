#pragma once

#include <cstddef>
#include <string>

#include "base/result.h"

// The GPUs of this machine, in words that every build understands: one without CUDA answers that it
// is one.
namespace pleiad::device::cuda {

// The GPUs that the kernels run on (Hopper: some use instructions that no other has), as major * 10
// + minor of their compute capability.
inline constexpr int kCapability = 90;

struct Gpu {
  int index = 0;
  std::string name;    // as the driver calls it, "NVIDIA H200"
  int capability = 0;  // major * 10 + minor
  int multiprocessors = 0;
  std::size_t memory_bytes = 0;
  std::size_t free_bytes = 0;  // at the time of the call
  std::size_t l2_bytes = 0;
};

// Whether this program was built with the CUDA backend.
bool built_with_cuda();

// How many GPUs the driver shows. Fails with Unsupported in a build without CUDA or with a driver
// that is too old, with NotFound without a driver or GPU.
Result<int> gpu_count();

// The GPU `index`. Fails like gpu_count(), with NotFound naming the indices there are, and with
// Unsupported when its compute capability is not kCapability.
Result<Gpu> find_gpu(int index);

// Whether the kernels run on a GPU of this capability; fails with Unsupported, naming it. Pure.
Result<void> check_capability(const Gpu& gpu);

// The multiprocessors of a GPU that find_gpu() has found.
int multiprocessors_of(int gpu);

}  // namespace pleiad::device::cuda
