#include "apps/flag_values.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "device/cuda/gpus.h"

namespace pleiad::apps {
namespace {

TEST(ComputeChoice, KnowsItsWords) {
  EXPECT_EQ(compute_choice("float32"), engine::ComputeChoice::Float32);
  EXPECT_EQ(compute_choice("bfloat16"), engine::ComputeChoice::BFloat16);
  EXPECT_EQ(compute_choice("auto"), engine::ComputeChoice::Auto);
}

TEST(DeviceChoice, TheHostIsNoGpu) {
  EXPECT_EQ(device_choice("cpu", 1).value(), std::nullopt);
  EXPECT_EQ(device_choice("auto", 4).value(), std::nullopt);
}

TEST(DeviceChoice, AutoIsTheFirstGpuWhereThereIsOne) {
  const bool there = device::cuda::find_gpu(0).ok();
  EXPECT_EQ(device_choice("auto", 1).value(), there ? std::optional<int>(0) : std::nullopt);
}

TEST(DeviceChoice, OtherWordsAreRefusedNamingThoseThereAre) {
  for (const char* word : {"tpu", "cuda:", "cuda:x", "cuda:1x", "cuda 1", ""}) {
    const auto choice = device_choice(word, 1);
    ASSERT_FALSE(choice.ok()) << word;
    EXPECT_EQ(choice.error().kind, ErrorKind::InvalidInput) << word;
    EXPECT_THAT(choice.error().message, testing::HasSubstr("cuda:INDEX"));
  }
}

TEST(DeviceChoice, AGpuThatIsNotThereIsRefused) {
  EXPECT_FALSE(device_choice("cuda:4711", 1).ok());
}

}  // namespace
}  // namespace pleiad::apps
