#include "weights/quantize_matrix.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"

namespace pleiad::weights {
namespace {

using ::testing::HasSubstr;

constexpr std::int64_t kRows = 130;
constexpr std::int64_t kColumns = 160;

std::vector<float> random_weights() {
  Random random(1);
  std::vector<float> out(static_cast<std::size_t>(kRows * kColumns));
  for (float& weight : out) {
    weight = static_cast<float>(random.normal()) * 0.05F;
  }
  return out;
}

device::TensorView view_of(std::span<const float> weights, std::int64_t rows = kRows) {
  return {
      .bytes = std::as_bytes(weights),
      .dtype = device::DType::F32,
      .shape = {.extents = {rows, static_cast<std::int64_t>(weights.size()) / rows}, .rank = 2}};
}

template <typename T>
T at(const std::vector<std::byte>& bytes, std::size_t index) {
  T value{};
  std::memcpy(&value, bytes.data() + index * sizeof(T), sizeof(T));
  return value;
}

// The sizes that a plan promises are those of the bytes.
std::vector<std::vector<std::byte>> quantize(const device::TensorView& view, QuantScheme scheme) {
  auto bytes = quantize_matrix(view, scheme).value();
  const auto plans = plan_quantized("a.weight", view.shape, scheme);
  EXPECT_EQ(bytes.size(), plans.size());
  for (std::size_t i = 0; i < plans.size(); ++i) {
    EXPECT_EQ(bytes[i].size(), plans[i].bytes()) << plans[i].name;
  }
  return bytes;
}

TEST(QuantizeMatrix, W8A8IsWithinHalfAStepOfEveryWeight) {
  const auto weights = random_weights();
  const auto out = quantize(view_of(weights), QuantScheme::W8A8);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const auto scale = at<float>(out[1], i / kColumns);
    const float back = static_cast<float>(at<std::int8_t>(out[0], i)) * scale;
    ASSERT_LE(std::fabs(back - weights[i]), scale * 0.5001F) << i;
    ASSERT_NE(at<std::int8_t>(out[0], i), -128);
  }
}

TEST(QuantizeMatrix, Fp8BlocksReachTheLargestCodeAndKeepThreeBits) {
  const auto weights = random_weights();
  const auto out = quantize(view_of(weights), QuantScheme::Fp8Block);
  float largest = 0.0F;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const std::size_t row = i / kColumns;
    const std::size_t column = i % kColumns;
    const auto scale = at<float>(out[1], row / 128 * 2 + column / 128);
    const float code = device::f8e4m3_to_float(at<std::uint8_t>(out[0], i));
    largest = std::max(largest, std::fabs(code));
    // Half a step: a sixteenth of the weight, or of the smallest normal code.
    const float step = std::max(std::fabs(weights[i]), scale * 0x1p-6F) / 16.0F;
    ASSERT_LE(std::fabs(code * scale - weights[i]), step * 1.001F) << i;
  }
  EXPECT_EQ(largest, 448.0F);
}

TEST(QuantizeMatrix, Int4GroupsAreWithinHalfAStepOfTheStoredScale) {
  const auto weights = random_weights();
  const auto out = quantize(view_of(weights), QuantScheme::Int4Group32);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const float scale = device::bf16_to_float(at<device::BF16>(out[1], i / 32));
    const auto word = at<std::uint32_t>(out[0], i / 8);
    const auto code = static_cast<std::int32_t>((word >> (4 * (i % 8))) & 0xFU) - 8;
    // The largest weights may lie beyond the last code, by half a step more where the scale was
    // rounded down.
    ASSERT_LE(std::fabs(static_cast<float>(code) * scale - weights[i]), scale * 0.55F) << i;
  }
  EXPECT_EQ(at<std::int64_t>(out[2], 0), kRows);
  EXPECT_EQ(at<std::int64_t>(out[2], 1), kColumns);
}

TEST(QuantizeMatrix, ZerosStayZerosUnderAScaleThatIsANumber) {
  const std::vector<float> zeros(64, 0.0F);
  const auto w8a8 = quantize(view_of(zeros, 2), QuantScheme::W8A8);
  EXPECT_EQ(at<float>(w8a8[1], 1), 1.0F);
  EXPECT_EQ(at<std::int8_t>(w8a8[0], 63), 0);
  const auto int4 = quantize(view_of(zeros, 2), QuantScheme::Int4Group32);
  EXPECT_EQ(at<std::uint32_t>(int4[0], 0), 0x88888888U);
}

TEST(QuantizeMatrix, ReadsHalfPrecisionToo) {
  std::vector<std::uint16_t> halves(32, device::float_to_bf16(0.5F));
  device::TensorView view{
      .bytes = std::as_bytes(std::span(halves)),
      .dtype = device::DType::BF16,
      .shape = {.extents = {1, 32}, .rank = 2}};
  EXPECT_EQ(at<float>(quantize(view, QuantScheme::W8A8)[1], 0), 0.5F / 127.0F);
  halves.assign(32, 0x3800);  // 0.5 in half precision
  view.dtype = device::DType::F16;
  EXPECT_EQ(at<float>(quantize(view, QuantScheme::W8A8)[1], 0), 0.5F / 127.0F);
}

TEST(QuantizeMatrix, NamesAWeightThatIsNoNumber) {
  auto weights = random_weights();
  weights[static_cast<std::size_t>(3 * kColumns + 7)] = std::numeric_limits<float>::infinity();
  for (const auto scheme : {QuantScheme::W8A8, QuantScheme::Fp8Block, QuantScheme::Int4Group32}) {
    const auto out = quantize_matrix(view_of(weights), scheme);
    ASSERT_FALSE(out.ok());
    EXPECT_THAT(out.error().message, HasSubstr("weight [3, 7] is inf"));
  }
}

TEST(QuantScheme, NamesAndShapes) {
  for (const auto scheme : {QuantScheme::W8A8, QuantScheme::Fp8Block, QuantScheme::Int4Group32}) {
    EXPECT_EQ(parse_quant_scheme(to_string(scheme)), scheme);
  }
  EXPECT_FALSE(parse_quant_scheme("int3").has_value());
  const device::Shape narrow{.extents = {4, 40}, .rank = 2};
  EXPECT_TRUE(can_quantize(narrow, QuantScheme::W8A8));
  EXPECT_TRUE(can_quantize(narrow, QuantScheme::Fp8Block));
  EXPECT_FALSE(can_quantize(narrow, QuantScheme::Int4Group32));
  EXPECT_FALSE(can_quantize({.extents = {4}, .rank = 1}, QuantScheme::Fp8Block));
  EXPECT_EQ(
      plan_quantized("m.weight", narrow, QuantScheme::Fp8Block)[1].name, "m.weight_scale_inv"
  );
}

TEST(QuantizeMatrix, MxFp4TakesTheNearestCodeUnderAPowerOfTwo) {
  constexpr std::array<float, 8> kCodes = {0, 0.5F, 1, 1.5F, 2, 3, 4, 6};
  constexpr std::int64_t kInputs = 96;
  constexpr std::int64_t kOutputs = 5;
  Random random(2);
  std::vector<float> weights(static_cast<std::size_t>(kInputs * kOutputs));
  for (float& weight : weights) {
    weight = static_cast<float>(random.normal());
  }

  const auto out = quantize_matrix(view_of(weights, kInputs), QuantScheme::MxFp4).value();

  ASSERT_EQ(out[0].size(), weights.size() / 2);
  ASSERT_EQ(out[1].size(), weights.size() / 32);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const std::size_t output = i / kInputs;
    const std::size_t input = i % kInputs;
    const auto byte = at<std::uint8_t>(out[0], i / 2);
    const unsigned code = i % 2 == 0 ? byte & 0xFU : byte >> 4U;
    const float scale = std::ldexp(1.0F, at<std::uint8_t>(out[1], i / 32) - 127);
    const float back = (code & 8U ? -1.0F : 1.0F) * kCodes[code & 7U] * scale;
    const float weight = weights[input * kOutputs + output];
    // What lies above the largest code becomes that; elsewhere no code is nearer.
    float nearest = 6.0F * scale;
    for (const float magnitude : kCodes) {
      nearest = std::min(nearest, std::fabs(std::fabs(weight) - magnitude * scale));
    }
    EXPECT_FLOAT_EQ(std::fabs(weight - back), nearest) << i;
    EXPECT_LT(std::fabs(weight), 8.0F * scale);
  }
}

TEST(QuantizeMatrix, MxFp4PutsTiesOnEvenCodesAndKeepsZeros) {
  std::vector<float> weights(64, 0.0F);
  const std::array<float, 8> first = {6.0F, 0.25F, 0.75F, -1.25F, 1.75F, 2.5F, -3.5F, 5.0F};
  std::ranges::copy(first, weights.begin());

  const auto out = quantize_matrix(view_of(weights, 64), QuantScheme::MxFp4).value();

  EXPECT_EQ(at<std::uint8_t>(out[1], 0), 127);
  EXPECT_EQ(at<std::uint32_t>(out[0], 0), 0x6E44A207U);
  EXPECT_EQ(at<std::uint8_t>(out[1], 1), 127);
  EXPECT_EQ(at<std::uint32_t>(out[0], 4), 0U);
}

TEST(QuantizeMatrix, MxFp4IsForStacks) {
  EXPECT_TRUE(can_quantize({.extents = {2, 64, 5}, .rank = 3}, QuantScheme::MxFp4));
  EXPECT_FALSE(can_quantize({.extents = {2, 48, 5}, .rank = 3}, QuantScheme::MxFp4));
  EXPECT_FALSE(can_quantize({.extents = {64, 64}, .rank = 2}, QuantScheme::MxFp4));
  EXPECT_FALSE(can_quantize({.extents = {2, 64, 64}, .rank = 3}, QuantScheme::W8A8));
}

}  // namespace
}  // namespace pleiad::weights
