#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace pleiad::device {

// Element types of tensors in checkpoints and caches.
enum class DType : std::uint8_t {
  F32,
  BF16,
  F16,
  F8E4M3,
  F8E8M0,
  I8,
  U8,
  I16,
  I32,
  I64,
  Bool,
  F64
};

// Bytes of one element.
std::size_t size_of(DType dtype);
// The name safetensors uses, such as "BF16".
std::string_view to_string(DType dtype);
// The dtype that safetensors calls `name`, or nothing.
std::optional<DType> parse_dtype(std::string_view name);

// A BF16 number as its bits; arithmetic happens in float.
using BF16 = std::uint16_t;

inline float bf16_to_float(BF16 bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16U);
}

// Rounds to nearest, ties to even; NaN stays NaN.
inline BF16 float_to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return static_cast<BF16>((bits >> 16U) | 0x40U);
  return static_cast<BF16>((bits + 0x7FFFU + ((bits >> 16U) & 1U)) >> 16U);
}

// `value` rounded to the nearest BF16, as a float.
inline float round_to_bf16(float value) {
  return bf16_to_float(float_to_bf16(value));
}

// IEEE half precision to float, exact.
float f16_to_float(std::uint16_t bits);

// FP8 E4M3FN (bias 7, no infinities, 0x7F and 0xFF are NaN) to float, exact.
float f8e4m3_to_float(std::uint8_t bits);
// The nearest FP8 E4M3FN, ties to even; beyond 448 the largest, NaN stays.
std::uint8_t float_to_f8e4m3(float value);

// FP8 E8M0, a power of two: 2^(bits - 127), exact (0 is the denormal 2^-127; 255 is NaN).
float f8e8m0_to_float(std::uint8_t bits);

}  // namespace pleiad::device
