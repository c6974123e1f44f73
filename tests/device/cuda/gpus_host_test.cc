// Also tests: cuda_error.cc
#include <driver_types.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "device/cuda/cuda_error.h"
#include "device/cuda/gpus.h"

namespace pleiad::device::cuda {
namespace {

TEST(CudaError, SuccessIsSuccess) {
  EXPECT_TRUE(checked(cudaSuccess, "nothing").ok());
}

TEST(CudaError, KindsSayWhatTheOperatorCanDo) {
  const auto kind = [](cudaError_t status) { return checked(status, "an op").error().kind; };
  EXPECT_EQ(kind(cudaErrorMemoryAllocation), ErrorKind::Exhausted);
  EXPECT_EQ(kind(cudaErrorNoDevice), ErrorKind::NotFound);
  EXPECT_EQ(kind(cudaErrorInvalidDevice), ErrorKind::NotFound);
  EXPECT_EQ(kind(cudaErrorNoKernelImageForDevice), ErrorKind::Unsupported);
  EXPECT_EQ(kind(cudaErrorIllegalAddress), ErrorKind::Internal);
}

TEST(CudaError, NamesWhatWasUnderWay) {
  const auto result = checked(cudaErrorIllegalAddress, "rms_norm [512, 2048]");
  EXPECT_THAT(result.error().message, testing::StartsWith("rms_norm [512, 2048]: CUDA error 700"));
}

// Where there is no GPU, as in most builds, one line says what is missing.
TEST(CudaGpus, OneLineSaysWhatIsMissing) {
  EXPECT_TRUE(built_with_cuda());
  const auto count = gpu_count();
  if (count.ok()) return;
  EXPECT_THAT(count.error().message, testing::StartsWith("--device cuda: "));
  EXPECT_THAT(count.error().message, testing::Not(testing::HasSubstr("\n")));
}

}  // namespace
}  // namespace pleiad::device::cuda
