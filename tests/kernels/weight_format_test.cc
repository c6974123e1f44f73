#include "kernels/weight_format.h"

#include <gtest/gtest.h>

namespace pleiad::kernels {
namespace {

using device::DType;

TEST(PanelLayout, CountsTheBytesOfPlainPanels) {
  const PanelLayout floats = {.compute = Compute::Float32, .inputs = 5};
  const PanelLayout pairs = {.compute = Compute::BFloat16, .inputs = 5};

  EXPECT_EQ(floats.bytes(), 5U * 16 * 4);
  EXPECT_EQ(pairs.bytes(), 6U * 16 * 2);
  EXPECT_EQ(floats.groups(), 0);
  EXPECT_EQ(floats.codes_begin(), 0U);
}

TEST(PanelLayout, PutsPaddedScalesBeforeTheCodes) {
  const PanelLayout fp8 = {.format = WeightFormat::Fp8Block, .inputs = 257, .scale_inputs = 128};
  const PanelLayout int8 = {.format = WeightFormat::Int8Channel, .inputs = 30, .scale_inputs = 32};
  const PanelLayout int4 = {
      .format = WeightFormat::Int4Group32,
      .inputs = 96,
      .scale_inputs = 32,
      .scale_type = DType::BF16};
  const PanelLayout mxfp4 = {
      .format = WeightFormat::MxFp4,
      .inputs = 160,
      .scale_inputs = 32,
      .scale_type = DType::F8E8M0};

  EXPECT_EQ(fp8.groups(), 3);
  EXPECT_EQ(fp8.codes_begin(), 3U * 64);
  EXPECT_EQ(fp8.bytes(), 3U * 64 + 65 * 64);
  EXPECT_EQ(int8.groups(), 1);
  EXPECT_EQ(int8.bytes(), 64U + 8 * 64);
  EXPECT_EQ(int4.codes_begin(), 128U);
  EXPECT_EQ(int4.bytes(), 128U + 12 * 64);
  EXPECT_EQ(mxfp4.codes_begin(), 128U);
  EXPECT_EQ(mxfp4.bytes(), 128U + 20 * 64);
}

TEST(WeightFormat, HasAName) {
  EXPECT_EQ(to_string(WeightFormat::Plain), "plain");
  EXPECT_EQ(to_string(WeightFormat::MxFp4), "MXFP4");
}

}  // namespace
}  // namespace pleiad::kernels
