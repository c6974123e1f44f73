#include "tests/model/reference_math.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/check.h"

namespace pleiad::model::reference {
namespace {

// IEEE half precision, from its definition.
double half(std::uint16_t bits) {
  const int exponent = (bits >> 10U) & 0x1FU;
  const int fraction = bits & 0x3FFU;
  const double magnitude =
      exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  return (bits & 0x8000U) != 0 ? -magnitude : magnitude;
}

// FP8 E4M3: bias 7, no infinities, subnormals in steps of 2^-9.
double float8(std::uint8_t bits) {
  const int exponent = (bits >> 3U) & 0xFU;
  const int fraction = bits & 7U;
  const double magnitude =
      exponent == 0 ? std::ldexp(fraction, -9) : std::ldexp(8 + fraction, exponent - 10);
  return (bits & 0x80U) != 0 ? -magnitude : magnitude;
}

// MXFP4's eight magnitudes and a sign.
double float4(unsigned bits) {
  constexpr std::array kMagnitudes = {0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0};
  return (bits & 8U) != 0 ? -kMagnitudes[bits & 7U] : kMagnitudes[bits & 7U];
}

double element(const device::TensorView& view, std::size_t index) {
  if (view.dtype == device::DType::F32) {
    float value = 0;
    std::memcpy(&value, view.bytes.data() + index * 4, 4);
    return static_cast<double>(value);
  }
  const auto byte = static_cast<std::uint8_t>(view.bytes[index]);
  if (view.dtype == device::DType::U8) return byte;
  if (view.dtype == device::DType::F8E4M3) return float8(byte);
  std::uint16_t bits = 0;
  std::memcpy(&bits, view.bytes.data() + index * 2, 2);
  if (view.dtype == device::DType::F16) return half(bits);
  PLEIAD_CHECK(view.dtype == device::DType::BF16);
  return static_cast<double>(std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16U));
}

}  // namespace

Tensor Tensor::slice(std::size_t index) const {
  const auto size = static_cast<std::size_t>(shape[1] * shape[2]);
  const auto begin = values.begin() + static_cast<std::ptrdiff_t>(index * size);
  return {{shape[1], shape[2]}, {begin, begin + static_cast<std::ptrdiff_t>(size)}};
}

Tensors::Tensors(const std::filesystem::path& folder)
    : checkpoint_(weights::Checkpoint::open(folder).value()) {}

Tensor Tensors::get(const std::string& name) const {
  if (checkpoint_->contains(name + "_blocks")) return read_mxfp4(name);
  Tensor out = read(name);
  if (!checkpoint_->contains(name + "_scale_inv")) return out;
  const Tensor scales = read(name + "_scale_inv");
  const auto columns = static_cast<std::size_t>(out.shape[1]);
  const auto scale_columns = static_cast<std::size_t>(scales.shape[1]);
  for (std::size_t i = 0; i < out.values.size(); ++i) {
    out.values[i] *= scales.values[i / columns / 128 * scale_columns + i % columns / 128];
  }
  return out;
}

// Blocks [experts, out, in / 32, 16], each with 32 values, the lower half of a byte first; their
// scales are powers of two.
Tensor Tensors::read_mxfp4(const std::string& name) const {
  const Tensor blocks = read(name + "_blocks");
  const Tensor scales = read(name + "_scales");
  const auto outs = static_cast<std::size_t>(blocks.shape[1]);
  const auto ins = static_cast<std::size_t>(blocks.shape[2]) * 32;
  Tensor out;
  out.shape = {blocks.shape[0], blocks.shape[2] * 32, blocks.shape[1]};
  out.values.resize(blocks.values.size() * 2);
  for (std::size_t i = 0; i < out.values.size(); ++i) {
    const auto byte = static_cast<unsigned>(blocks.values[i / 2]);
    const int scale = static_cast<int>(scales.values[i / 32]) - 127;
    const std::size_t expert = i / ins / outs;
    const std::size_t to = (expert * ins + i % ins) * outs + i / ins % outs;
    out.values[to] = std::ldexp(float4(i % 2 == 0 ? byte & 15U : byte >> 4U), scale);
  }
  return out;
}

Tensor Tensors::read(const std::string& name) const {
  const device::TensorView view = checkpoint_->tensor(name).value();
  Tensor out;
  for (std::size_t axis = 0; axis < view.shape.rank; ++axis) {
    out.shape.push_back(view.shape[axis]);
  }
  out.values.resize(static_cast<std::size_t>(view.shape.elements()));
  for (std::size_t i = 0; i < out.values.size(); ++i) {
    out.values[i] = element(view, i);
  }
  return out;
}

Row linear(const Row& x, const Tensor& weight, const Tensor& bias) {
  PLEIAD_CHECK(weight.values.size() % x.size() == 0);
  Row out(weight.values.size() / x.size());
  for (std::size_t row = 0; row < out.size(); ++row) {
    double sum = bias.values.empty() ? 0.0 : bias.values.at(row);
    for (std::size_t i = 0; i < x.size(); ++i) {
      sum += weight.values[row * x.size() + i] * x[i];
    }
    out[row] = sum;
  }
  return out;
}

Row linear_transposed(const Row& x, const Tensor& weight, const Row& bias) {
  Row out = bias;
  for (std::size_t i = 0; i < x.size(); ++i) {
    for (std::size_t column = 0; column < out.size(); ++column) {
      out[column] += weight.values[i * out.size() + column] * x[i];
    }
  }
  return out;
}

Row rms_norm(const Row& x, const Tensor& gain, double eps) {
  PLEIAD_CHECK(gain.values.size() == x.size());
  double squares = 0;
  for (const double value : x) {
    squares += value * value;
  }
  const double root = std::sqrt(squares / static_cast<double>(x.size()) + eps);
  Row out(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    out[i] = x[i] / root * gain.values[i];
  }
  return out;
}

double sigmoid(double x) {
  return 1 / (1 + std::exp(-x));
}

Row softmax(const Row& x, const double* sink) {
  double highest = *std::ranges::max_element(x);
  if (sink != nullptr) highest = std::max(highest, *sink);
  double sum = sink != nullptr ? std::exp(*sink - highest) : 0.0;
  Row out(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    out[i] = std::exp(x[i] - highest);
    sum += out[i];
  }
  for (double& value : out) {
    value /= sum;
  }
  return out;
}

void add_scaled(Row& sum, const Row& x, double scale) {
  PLEIAD_CHECK(sum.size() == x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    sum[i] += scale * x[i];
  }
}

}  // namespace pleiad::model::reference
