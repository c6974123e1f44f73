#include "device/cuda/gpus.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pleiad::device::cuda {
namespace {

TEST(Gpus, ABuildWithoutCudaSaysSoAndHowToGetOne) {
  if (built_with_cuda()) GTEST_SKIP() << "this build has CUDA";
  const auto gpu = find_gpu(0);
  ASSERT_FALSE(gpu.ok());
  EXPECT_EQ(gpu.error().kind, ErrorKind::Unsupported);
  EXPECT_THAT(gpu.error().message, testing::HasSubstr("./dev build cuda"));
}

}  // namespace
}  // namespace pleiad::device::cuda
