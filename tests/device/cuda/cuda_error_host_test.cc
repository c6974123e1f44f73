#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "device/cuda/cuda_error.h"
#include "device/cuda/gpus.h"

namespace pleiad::device::cuda {
namespace {

using testing::HasSubstr;

TEST(DescribeError, ADriverThatIsTooOldIsToldWithBothVersions) {
  const Error error = describe_error(cudaErrorInsufficientDriver, 12040, "--device cuda");

  EXPECT_EQ(error.kind, ErrorKind::Unsupported);
  EXPECT_THAT(error.message, HasSubstr("--device cuda: the NVIDIA driver is too old"));
  EXPECT_THAT(error.message, HasSubstr("CUDA 12.4, this program needs 13."));
}

TEST(DescribeError, NoDriverAndNoGpuAreToldApart) {
  const Error driver = describe_error(cudaErrorInsufficientDriver, 0, "--device cuda");
  const Error gpu = describe_error(cudaErrorNoDevice, 13000, "--device cuda");

  EXPECT_EQ(driver.kind, ErrorKind::NotFound);
  EXPECT_THAT(driver.message, HasSubstr("no NVIDIA driver"));
  EXPECT_EQ(gpu.kind, ErrorKind::NotFound);
  EXPECT_THAT(gpu.message, HasSubstr("no NVIDIA GPU"));
}

TEST(DescribeError, AnyOtherNamesWhatWasUnderWay) {
  const Error error = describe_error(cudaErrorIllegalAddress, 13000, "rms_norm [512, 2048]");

  EXPECT_EQ(error.kind, ErrorKind::Internal);
  EXPECT_THAT(error.message, HasSubstr("rms_norm [512, 2048]: CUDA error 700"));
  EXPECT_EQ(error.message.find('\n'), std::string::npos);
}

TEST(CheckCapability, AnotherArchitectureIsRefusedByName) {
  EXPECT_TRUE(check_capability({.name = "NVIDIA H200", .capability = 90}).ok());

  const auto refused = check_capability({.index = 1, .name = "NVIDIA A100", .capability = 80});

  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind, ErrorKind::Unsupported);
  EXPECT_THAT(
      refused.error().message,
      HasSubstr("cuda:1: NVIDIA A100 has compute capability 8.0; the kernels are for 9.0")
  );
}

}  // namespace
}  // namespace pleiad::device::cuda
