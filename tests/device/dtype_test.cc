#include "device/dtype.h"

#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include <gtest/gtest.h>

namespace pleiad::device {
namespace {

constexpr std::array kAll = {
    DType::F32,
    DType::BF16,
    DType::F16,
    DType::F8E4M3,
    DType::F8E8M0,
    DType::I8,
    DType::U8,
    DType::I16,
    DType::I32,
    DType::I64,
    DType::Bool,
    DType::F64};

TEST(DType, GoesByTheNamesOfSafetensors) {
  for (const DType dtype : kAll) {
    EXPECT_EQ(parse_dtype(to_string(dtype)), dtype);
  }
  EXPECT_EQ(to_string(DType::F8E4M3), "F8_E4M3");
  EXPECT_EQ(parse_dtype("BF16"), DType::BF16);
  EXPECT_EQ(parse_dtype("bf16"), std::nullopt);
  EXPECT_EQ(parse_dtype(""), std::nullopt);
}

TEST(DType, KnowsItsBytes) {
  EXPECT_EQ(size_of(DType::F8E4M3), 1U);
  EXPECT_EQ(size_of(DType::BF16), 2U);
  EXPECT_EQ(size_of(DType::I64), 8U);
}

// Equal, or both NaN.
bool same_number(double a, double b) {
  return (std::isnan(a) && std::isnan(b)) || a == b;
}

TEST(Bf16, EveryValueSurvivesTheWayThroughFloat) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float number = bf16_to_float(static_cast<BF16>(bits));
    const BF16 back = float_to_bf16(number);
    const bool survives = std::isnan(number) ? std::isnan(bf16_to_float(back)) : back == bits;
    ASSERT_TRUE(survives) << bits;
  }
}

TEST(Bf16, RoundsToTheNearestAndTiesToEven) {
  const auto rounded = [](std::uint32_t bits) { return float_to_bf16(std::bit_cast<float>(bits)); };

  EXPECT_EQ(rounded(0x3F807FFF), 0x3F80);
  EXPECT_EQ(rounded(0x3F808000), 0x3F80);
  EXPECT_EQ(rounded(0x3F808001), 0x3F81);
  EXPECT_EQ(rounded(0x3F818000), 0x3F82);
  EXPECT_EQ(rounded(0x7F7FFFFF), 0x7F80);  // past the largest: infinity
  EXPECT_EQ(rounded(0x80000001), 0x8000);  // a denormal keeps its sign
}

TEST(Bf16, KeepsNanEvenWhenItsPayloadIsCutOff) {
  EXPECT_TRUE(std::isnan(round_to_bf16(std::bit_cast<float>(0x7F800001U))));
  EXPECT_TRUE(std::isnan(round_to_bf16(std::bit_cast<float>(0xFFFFFFFFU))));
}

// The definition: sign, exponent, mantissa.
double f16_value(std::uint32_t bits) {
  const double sign = (bits & 0x8000U) != 0 ? -1 : 1;
  const int exponent = static_cast<int>((bits >> 10U) & 0x1FU);
  const double mantissa = bits & 0x3FFU;
  if (exponent == 31) {
    return mantissa == 0 ? sign * std::numeric_limits<double>::infinity()
                         : std::numeric_limits<double>::quiet_NaN();
  }
  if (exponent == 0) return sign * std::ldexp(mantissa, -24);
  return sign * std::ldexp(1024 + mantissa, exponent - 25);
}

TEST(F16, EveryValueBecomesItsFloat) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = f16_to_float(static_cast<std::uint16_t>(bits));
    ASSERT_TRUE(same_number(value, f16_value(bits))) << bits;
    ASSERT_EQ(std::signbit(value), (bits & 0x8000U) != 0) << bits;
  }
}

double f8e4m3_magnitude(std::uint32_t bits) {
  const int exponent = static_cast<int>((bits >> 3U) & 0xFU);
  const double mantissa = bits & 7U;
  if (exponent == 15 && mantissa == 7) return std::numeric_limits<double>::quiet_NaN();
  return exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
}

TEST(F8E4M3, EveryValueBecomesItsFloat) {
  for (std::uint32_t bits = 0; bits < 0x100; ++bits) {
    const float value = f8e4m3_to_float(static_cast<std::uint8_t>(bits));
    ASSERT_TRUE(same_number(std::fabs(value), f8e4m3_magnitude(bits))) << bits;
    ASSERT_EQ(std::signbit(value), (bits & 0x80U) != 0) << bits;
  }
  EXPECT_EQ(f8e4m3_to_float(0x7E), 448.0F);
}

TEST(F8E8M0, IsAPowerOfTwoOrNotANumber) {
  for (int bits = 0; bits < 255; ++bits) {
    EXPECT_EQ(f8e8m0_to_float(static_cast<std::uint8_t>(bits)), std::ldexp(1.0F, bits - 127));
  }
  EXPECT_GT(f8e8m0_to_float(0), 0.0F);
  EXPECT_TRUE(std::isnan(f8e8m0_to_float(255)));
}

TEST(DType, Fp8RoundsToTheNearestCodeTiesToEven) {
  for (std::uint32_t bits = 0; bits < 0x7F; ++bits) {
    const auto code = static_cast<std::uint8_t>(bits);
    const float value = f8e4m3_to_float(code);
    ASSERT_EQ(float_to_f8e4m3(value), code);
    ASSERT_EQ(float_to_f8e4m3(-value), code | 0x80U);
    if (bits == 0x7E) continue;
    const float next = f8e4m3_to_float(static_cast<std::uint8_t>(code + 1));
    const float middle = (value + next) / 2;
    ASSERT_EQ(float_to_f8e4m3(middle), bits % 2 == 0 ? code : code + 1) << bits;
    ASSERT_EQ(float_to_f8e4m3(std::nextafter(middle, 0.0F)), code) << bits;
    ASSERT_EQ(float_to_f8e4m3(std::nextafter(middle, next)), code + 1) << bits;
  }
  EXPECT_EQ(float_to_f8e4m3(1e30F), 0x7E);
  EXPECT_EQ(float_to_f8e4m3(-std::numeric_limits<float>::infinity()), 0xFE);
  EXPECT_EQ(float_to_f8e4m3(std::numeric_limits<float>::quiet_NaN()) & 0x7F, 0x7F);
}

}  // namespace
}  // namespace pleiad::device
