// Without a GPU nothing here counts as passed: the program says so and exits with 77.
#include <cstdio>

#include <gtest/gtest.h>

#include "device/cuda/gpus.h"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const auto gpu = pleiad::device::cuda::find_gpu(0);
  if (!gpu.ok()) {
    std::printf("0 tests ran: %s\n", gpu.error().message.c_str());
    return 77;
  }
  std::printf(
      "%s, %d multiprocessors, %zu of %zu MiB free\n",
      gpu->name.c_str(),
      gpu->multiprocessors,
      gpu->free_bytes >> 20U,
      gpu->memory_bytes >> 20U
  );
  return RUN_ALL_TESTS();
}
