#pragma once

#include <array>
#include <cmath>
#include <cstring>
#include <span>
#include <vector>

#include "base/random.h"
#include "device/buffer.h"
#include "kernels/packed_matrix.h"
#include "tests/kernels/support.h"

// Random quantised weights, as a checkpoint stores them and as the numbers they stand for.
namespace pleiad::kernels::testing {

inline constexpr std::array kCodedFormats = {
    WeightFormat::Fp8Block,
    WeightFormat::Int8Channel,
    WeightFormat::Int4Group32,
    WeightFormat::MxFp4,
};

struct QuantizedShape {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  device::DType scale_type = device::DType::F32;  // MxFp4 always has U8
  std::int64_t scale_rows = 128;                  // of Fp8Block
  std::int64_t scale_columns = 128;
};

struct Quantized {
  WeightFormat format = WeightFormat::Fp8Block;
  QuantizedShape shape;
  std::vector<std::uint8_t> codes;
  std::vector<std::byte> scales;
  std::vector<float> code;   // [rows, columns]
  std::vector<float> scale;  // [rows, columns]

  [[nodiscard]] float weight(std::int64_t row, std::int64_t column) const {
    const auto at = static_cast<std::size_t>(row * shape.columns + column);
    return code[at] * scale[at];
  }

  [[nodiscard]] MatrixSource source() const {
    const auto [rows, columns, scale_type, scale_rows, scale_columns] = shape;
    MatrixSource source = {
        .format = format, .scale_rows = scale_rows, .scale_columns = scale_columns};
    source.tensor.bytes = std::as_bytes(std::span(codes));
    source.scales = {.bytes = scales, .dtype = scale_type, .shape = {}};
    device::Shape& of_codes = source.tensor.shape;
    device::Shape& of_scales = source.scales.shape;
    switch (format) {
      case WeightFormat::Plain:
        break;
      case WeightFormat::Fp8Block:
        source.tensor.dtype = device::DType::F8E4M3;
        of_codes = {.extents = {rows, columns}, .rank = 2};
        of_scales = {
            .extents =
                {(rows + scale_rows - 1) / scale_rows,
                 (columns + scale_columns - 1) / scale_columns},
            .rank = 2};
        break;
      case WeightFormat::Int8Channel:
        source.tensor.dtype = device::DType::I8;
        of_codes = {.extents = {rows, columns}, .rank = 2};
        of_scales = {.extents = {rows, 1}, .rank = 2};
        break;
      case WeightFormat::Int4Group32:
        source.tensor.dtype = device::DType::I32;
        of_codes = {.extents = {rows, columns / 8}, .rank = 2};
        of_scales = {.extents = {rows, columns / 32}, .rank = 2};
        break;
      case WeightFormat::MxFp4:
        source.tensor.dtype = device::DType::U8;
        of_codes = {.extents = {rows, columns / 32, 16}, .rank = 3};
        of_scales = {.extents = {rows, columns / 32}, .rank = 2};
        break;
    }
    return source;
  }
};

// The bytes of `scale` in `type`, and the scale as they hold it.
inline float append_scale(float scale, device::DType type, std::vector<std::byte>& out) {
  const auto append = [&](const auto& value) {
    std::array<std::byte, sizeof(value)> bytes{};
    std::memcpy(bytes.data(), &value, sizeof(value));
    out.insert(out.end(), bytes.begin(), bytes.end());
  };
  if (type == device::DType::F32) {
    append(scale);
    return scale;
  }
  if (type == device::DType::BF16) {
    append(device::float_to_bf16(scale));
    return device::round_to_bf16(scale);
  }
  if (type == device::DType::F16) {
    // Ten bits of mantissa, cut off; in the range of normal halves.
    const auto bits = std::bit_cast<std::uint32_t>(scale);
    const auto half = static_cast<std::uint16_t>(((bits >> 13U) - (112U << 10U)) & 0x7FFFU);
    append(half);
    return device::f16_to_float(half);
  }
  const int exponent = std::ilogb(scale);
  append(static_cast<std::uint8_t>(exponent + 127));
  return std::ldexp(1.0F, exponent);
}

// Puts `byte`, or its lower half, down as the code of the next column; returns its number.
inline float append_code(Quantized& made, std::uint8_t byte, bool odd_column) {
  constexpr std::array<float, 8> kE2m1 = {0.0F, 0.5F, 1.0F, 1.5F, 2.0F, 3.0F, 4.0F, 6.0F};
  if (made.format == WeightFormat::Fp8Block) {
    if ((byte & 0x7FU) == 0x7FU) byte ^= 1U;
    made.codes.push_back(byte);
    return device::f8e4m3_to_float(byte);
  }
  if (made.format == WeightFormat::Int8Channel) {
    made.codes.push_back(byte);
    return static_cast<float>(static_cast<std::int8_t>(byte));
  }
  const unsigned nibble = byte & 0xFU;
  if (odd_column) {
    made.codes.back() = static_cast<std::uint8_t>(made.codes.back() | (nibble << 4U));
  } else {
    made.codes.push_back(static_cast<std::uint8_t>(nibble));
  }
  if (made.format == WeightFormat::Int4Group32) return static_cast<float>(nibble) - 8.0F;
  return nibble < 8 ? kE2m1.at(nibble) : -kE2m1.at(nibble - 8);
}

// Every code but NaN is as likely; scales spread over some powers of two.
inline Quantized random_quantized(Random& random, WeightFormat format, QuantizedShape shape) {
  if (format == WeightFormat::MxFp4) shape.scale_type = device::DType::U8;
  Quantized made{.format = format, .shape = shape, .codes = {}, .scales = {}};
  const bool blocks = format == WeightFormat::Fp8Block;
  const std::int64_t tall = blocks ? shape.scale_rows : 1;
  const std::int64_t group = blocks ? shape.scale_columns : 32;
  const std::int64_t wide = format == WeightFormat::Int8Channel ? shape.columns : group;
  const std::int64_t scale_line = (shape.columns + wide - 1) / wide;
  std::vector<float> scales;
  for (std::int64_t i = 0; i < (shape.rows + tall - 1) / tall * scale_line; ++i) {
    const float scale = std::exp2(static_cast<float>(random.uniform()) * 6.0F - 8.0F);
    scales.push_back(append_scale(scale, shape.scale_type, made.scales));
  }
  for (std::int64_t row = 0; row < shape.rows; ++row) {
    for (std::int64_t column = 0; column < shape.columns; ++column) {
      const auto byte = static_cast<std::uint8_t>(random.below(256));
      made.code.push_back(append_code(made, byte, column % 2 == 1));
      const std::int64_t at = row / tall * scale_line + column / wide;
      made.scale.push_back(scales[static_cast<std::size_t>(at)]);
    }
  }
  return made;
}

// Packs into memory that holds no zeros before.
inline OwnedMatrix pack_sources(std::span<const MatrixSource> sources, Compute compute) {
  OwnedMatrix owned;
  owned.memory = device::Buffer::allocate(PackedMatrix::bytes(sources, compute).value()).value();
  std::memset(owned.memory.data(), 0x7E, owned.memory.size());
  owned.matrix = PackedMatrix::pack(sources, compute, owned.memory.as<std::byte>()).value();
  return owned;
}

}  // namespace pleiad::kernels::testing
