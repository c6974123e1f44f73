#include "device/dtype.h"

#include <array>
#include <cmath>
#include <limits>

#include "base/check.h"

namespace pleiad::device {
namespace {

struct DTypeRow {
  DType dtype;
  std::string_view name;
  std::size_t bytes;
};

// In the order of the enum.
constexpr std::array<DTypeRow, 12> kTable = {{
    {DType::F32, "F32", 4},
    {DType::BF16, "BF16", 2},
    {DType::F16, "F16", 2},
    {DType::F8E4M3, "F8_E4M3", 1},
    {DType::F8E8M0, "F8_E8M0", 1},
    {DType::I8, "I8", 1},
    {DType::U8, "U8", 1},
    {DType::I16, "I16", 2},
    {DType::I32, "I32", 4},
    {DType::I64, "I64", 8},
    {DType::Bool, "BOOL", 1},
    {DType::F64, "F64", 8},
}};

const DTypeRow& row_of(DType dtype) {
  const auto& row = kTable[static_cast<std::size_t>(dtype)];
  PLEIAD_CHECK(row.dtype == dtype, "kTable is in the order of the enum");
  return row;
}

}  // namespace

std::size_t size_of(DType dtype) {
  return row_of(dtype).bytes;
}

std::string_view to_string(DType dtype) {
  return row_of(dtype).name;
}

std::optional<DType> parse_dtype(std::string_view name) {
  for (const auto& row : kTable) {
    if (row.name == name) return row.dtype;
  }
  return std::nullopt;
}

float f16_to_float(std::uint16_t bits) {
  const std::uint32_t sign = (bits & 0x8000U) << 16U;
  const std::uint32_t rest = (bits & 0x7FFFU) << 13U;
  // The exponent fields differ by 112 in bias; multiplying fixes that and normalises subnormals.
  const float scaled = std::bit_cast<float>(rest) * 0x1p112F;
  const std::uint32_t special = (bits & 0x7C00U) == 0x7C00U ? 0x7F800000U : 0U;
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(scaled) | special | sign);
}

float f8e4m3_to_float(std::uint8_t bits) {
  const bool negative = (bits & 0x80U) != 0;
  const int exponent = (bits >> 3U) & 0xF;
  const int mantissa = bits & 0x7;
  float magnitude = 0.0F;
  if (exponent == 0xF && mantissa == 7) {
    magnitude = std::numeric_limits<float>::quiet_NaN();
  } else if (exponent == 0) {
    magnitude = std::ldexp(static_cast<float>(mantissa), -9);
  } else {
    magnitude = std::ldexp(static_cast<float>(mantissa + 8), exponent - 10);
  }
  return negative ? -magnitude : magnitude;
}

float f8e8m0_to_float(std::uint8_t bits) {
  constexpr std::uint8_t kNan = 0xFF;
  if (bits == kNan) return std::numeric_limits<float>::quiet_NaN();
  return std::ldexp(1.0F, static_cast<int>(bits) - 127);
}

std::uint8_t float_to_f8e4m3(float value) {
  const auto sign = static_cast<std::uint8_t>(std::signbit(value) ? 0x80U : 0U);
  if (std::isnan(value)) return sign | 0x7FU;
  const float magnitude = std::fabs(value);
  if (magnitude >= 448.0F) return sign | 0x7EU;
  // Codes step by 2^-9 up to 2^-6, then by an eighth of the power of two below.
  const int exponent = magnitude < 0x1p-6F ? -6 : std::ilogb(magnitude);
  const float steps = std::nearbyint(std::ldexp(magnitude, 3 - exponent));
  // Eight steps are a whole exponent, so that a carry into the next one needs no care.
  const int code = (exponent + 6) * 8 + static_cast<int>(steps);
  return sign | static_cast<std::uint8_t>(code);
}

}  // namespace pleiad::device
