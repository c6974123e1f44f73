#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "device/dtype.h"
#include "tests/model/tensor_files.h"
#include "weights/checkpoint.h"

// What quantised tensors stand for, by other code than loads them.
namespace pleiad::model::testing {

template <typename T>
T element_of(const device::TensorView& view, std::int64_t index) {
  T value{};
  std::memcpy(&value, view.bytes.data() + index * static_cast<std::int64_t>(sizeof(T)), sizeof(T));
  return value;
}

inline NamedTensor
floats_named(std::string name, std::vector<std::int64_t> shape, const std::vector<float>& values) {
  return named_tensor<float>(std::move(name), "F32", std::move(shape), values);
}

// NAME_packed and NAME_scale, [rows, columns / 8] words of four bits.
inline NamedTensor
dequantised_int4(const weights::Checkpoint& checkpoint, const std::string& name) {
  const auto words = checkpoint.tensor(name + "_packed").value();
  const auto scales = checkpoint.tensor(name + "_scale").value();
  std::vector<float> values;
  for (std::int64_t i = 0; i < words.shape.elements() * 8; ++i) {
    const auto word = element_of<std::uint32_t>(words, i / 8);
    const auto code = static_cast<std::int32_t>((word >> (4 * (i % 8))) & 0xFU) - 8;
    const float scale = device::bf16_to_float(element_of<device::BF16>(scales, i / 32));
    values.push_back(static_cast<float>(code) * scale);
  }
  return floats_named(name, {words.shape[0], words.shape[1] * 8}, values);
}

// NAME in E4M3 and NAME_scale_inv, blocks of 128 x 128.
inline NamedTensor dequantised_fp8(const weights::Checkpoint& checkpoint, const std::string& name) {
  const auto codes = checkpoint.tensor(name).value();
  const auto scales = checkpoint.tensor(name + "_scale_inv").value();
  const std::int64_t columns = codes.shape[1];
  std::vector<float> values;
  for (std::int64_t i = 0; i < codes.shape.elements(); ++i) {
    const std::int64_t block = i / columns / 128 * scales.shape[1] + i % columns / 128;
    const float scale = element_of<float>(scales, block);
    values.push_back(device::f8e4m3_to_float(element_of<std::uint8_t>(codes, i)) * scale);
  }
  return floats_named(name, {codes.shape[0], columns}, values);
}

// A tensor of the checkpoint, as plain floats where it holds codes.
inline NamedTensor dequantised(const weights::Checkpoint& checkpoint, const std::string& name) {
  constexpr std::string_view kPacked = "_packed";
  if (name.ends_with(kPacked)) {
    return dequantised_int4(checkpoint, name.substr(0, name.size() - kPacked.size()));
  }
  const auto view = checkpoint.tensor(name).value();
  if (view.dtype == device::DType::F8E4M3) return dequantised_fp8(checkpoint, name);
  std::vector<std::int64_t> shape(
      view.shape.extents.begin(),
      view.shape.extents.begin() + static_cast<std::ptrdiff_t>(view.shape.rank)
  );
  return named_tensor<std::byte>(name, device::to_string(view.dtype), std::move(shape), view.bytes);
}

// Matrices [matrices, rows, columns] in the nearest MXFP4: 32 columns share a power of two.
struct Mxfp4 {
  std::string blocks;         // [matrices, rows, columns / 32, 16] bytes
  std::string scales;         // [matrices, rows, columns / 32] bytes
  std::vector<float> values;  // what they stand for
};

inline Mxfp4 to_mxfp4(const std::vector<float>& matrices) {
  constexpr std::array<float, 8> kCodes = {0, 0.5F, 1, 1.5F, 2, 3, 4, 6};
  Mxfp4 out;
  for (std::size_t first = 0; first < matrices.size(); first += 32) {
    float largest = 1e-30F;
    for (std::size_t i = 0; i < 32; ++i) {
      largest = std::max(largest, std::fabs(matrices[first + i]));
    }
    const int exponent = std::ilogb(largest) - 2;
    out.scales += static_cast<char>(exponent + 127);
    unsigned low = 0;
    for (std::size_t i = 0; i < 32; ++i) {
      const float x = std::ldexp(matrices[first + i], -exponent);
      std::size_t best = 0;
      for (std::size_t code = 1; code < kCodes.size(); ++code) {
        if (std::fabs(std::fabs(x) - kCodes[code]) < std::fabs(std::fabs(x) - kCodes[best])) {
          best = code;
        }
      }
      // Zero has no sign here.
      const bool negative = x < 0 && best > 0;
      const unsigned nibble = static_cast<unsigned>(best) | (negative ? 8U : 0U);
      if (i % 2 == 1) out.blocks += static_cast<char>(low | (nibble << 4U));
      low = nibble;
      out.values.push_back(std::ldexp(negative ? -kCodes[best] : kCodes[best], exponent));
    }
  }
  return out;
}

}  // namespace pleiad::model::testing
