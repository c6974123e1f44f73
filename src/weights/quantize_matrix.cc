#include "weights/quantize_matrix.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "base/check.h"

namespace pleiad::weights {
namespace {

constexpr std::int64_t kBlock = 128;  // Fp8Block: rows and columns of a block
constexpr std::int64_t kGroup = 32;   // Int4Group32, MxFp4
constexpr std::int64_t kWordCodes = 8;
constexpr float kInt8Max = 127.0F;
constexpr float kInt4Half = 7.5F;  // half the span of codes, -8 to 7
constexpr float kFp8Max = 448.0F;

constexpr std::array kNames = {
    std::pair{QuantScheme::W8A8, std::string_view("w8a8")},
    std::pair{QuantScheme::Fp8Block, std::string_view("fp8-block")},
    std::pair{QuantScheme::Int4Group32, std::string_view("int4-g32")},
    std::pair{QuantScheme::MxFp4, std::string_view("mxfp4")},
};

std::int64_t blocks(std::int64_t extent) {
  return (extent + kBlock - 1) / kBlock;
}

// "a.weight" gives "a.".
std::string stem_of(std::string_view name) {
  constexpr std::string_view kSuffix = "weight";
  PLEIAD_CHECK(name.ends_with(kSuffix), "the name of a weight");
  return std::string(name.substr(0, name.size() - kSuffix.size()));
}

device::Shape shape_of(std::int64_t rows, std::int64_t columns) {
  return {.extents = {rows, columns}, .rank = 2};
}

// Rows of the matrix as floats.
class Rows {
 public:
  explicit Rows(const device::TensorView& matrix)
      : matrix_(matrix), columns_(static_cast<std::size_t>(matrix.shape[1])) {}

  // Fails when a weight is not finite.
  Result<std::vector<float>> read(std::int64_t row) const {
    std::vector<float> out(columns_);
    const std::size_t first = static_cast<std::size_t>(row) * columns_;
    for (std::size_t i = 0; i < columns_; ++i) {
      out[i] = element(first + i);
      if (!std::isfinite(out[i])) return invalid_input("weight [{}, {}] is {}", row, i, out[i]);
    }
    return out;
  }

 private:
  [[nodiscard]] float element(std::size_t index) const {
    const std::byte* at = matrix_.bytes.data() + index * device::size_of(matrix_.dtype);
    if (matrix_.dtype == device::DType::F32) {
      float value = 0.0F;
      std::memcpy(&value, at, sizeof(value));
      return value;
    }
    std::uint16_t bits = 0;
    std::memcpy(&bits, at, sizeof(bits));
    return matrix_.dtype == device::DType::BF16 ? device::bf16_to_float(bits)
                                                : device::f16_to_float(bits);
  }

  const device::TensorView& matrix_;
  std::size_t columns_;
};

float largest(std::span<const float> values) {
  float out = 0.0F;
  for (const float value : values) {
    out = std::max(out, std::fabs(value));
  }
  return out;
}

// A scale under which the largest weight becomes the largest code; 1 where all are zero.
float scale_for(float largest_weight, float largest_code) {
  const float scale = largest_weight / largest_code;
  return scale > 0.0F ? scale : 1.0F;
}

template <typename T>
void append(std::vector<std::byte>& out, T value) {
  const auto* bytes = reinterpret_cast<const std::byte*>(&value);
  out.insert(out.end(), bytes, bytes + sizeof(value));
}

using Tensors = std::vector<std::vector<std::byte>>;

Result<Tensors> quantize_w8a8(const device::TensorView& matrix) {
  Tensors out(2);
  const Rows rows(matrix);
  for (std::int64_t row = 0; row < matrix.shape[0]; ++row) {
    PLEIAD_TRY(weights, rows.read(row));
    const float scale = scale_for(largest(weights), kInt8Max);
    for (const float weight : weights) {
      const float code = std::clamp(std::nearbyint(weight / scale), -kInt8Max, kInt8Max);
      append(out[0], static_cast<std::int8_t>(code));
    }
    append(out[1], scale);
  }
  return out;
}

Result<Tensors> quantize_fp8(const device::TensorView& matrix) {
  Tensors out(2);
  const Rows rows(matrix);
  const std::int64_t columns = matrix.shape[1];
  for (std::int64_t top = 0; top < matrix.shape[0]; top += kBlock) {
    const std::int64_t count = std::min(kBlock, matrix.shape[0] - top);
    std::vector<std::vector<float>> band;
    for (std::int64_t row = top; row < top + count; ++row) {
      PLEIAD_TRY(weights, rows.read(row));
      band.push_back(std::move(weights));
    }
    std::vector<float> scales;
    for (std::int64_t left = 0; left < columns; left += kBlock) {
      const auto width = static_cast<std::size_t>(std::min(kBlock, columns - left));
      float top_weight = 0.0F;
      for (const std::vector<float>& row : band) {
        const auto part = std::span(row).subspan(static_cast<std::size_t>(left), width);
        top_weight = std::max(top_weight, largest(part));
      }
      scales.push_back(scale_for(top_weight, kFp8Max));
      append(out[1], scales.back());
    }
    for (const std::vector<float>& row : band) {
      for (std::size_t i = 0; i < row.size(); ++i) {
        const float scale = scales[i / static_cast<std::size_t>(kBlock)];
        append(out[0], device::float_to_f8e4m3(row[i] / scale));
      }
    }
  }
  return out;
}

// The codes of eight weights, the first in the lowest bits.
std::uint32_t int4_word(std::span<const float> weights, float scale) {
  std::uint32_t word = 0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const float code = std::clamp(std::nearbyint(weights[i] / scale), -8.0F, 7.0F);
    word |= static_cast<std::uint32_t>(static_cast<std::int32_t>(code) + 8) << (4 * i);
  }
  return word;
}

Result<Tensors> quantize_int4(const device::TensorView& matrix) {
  Tensors out(3);
  const Rows rows(matrix);
  for (std::int64_t row = 0; row < matrix.shape[0]; ++row) {
    PLEIAD_TRY(weights, rows.read(row));
    for (std::size_t first = 0; first < weights.size(); first += kGroup) {
      const auto group = std::span(weights).subspan(first, kGroup);
      // Codes are chosen for the scale as it is stored.
      const device::BF16 stored = device::float_to_bf16(scale_for(largest(group), kInt4Half));
      const float scale = device::bf16_to_float(stored);
      for (std::size_t at = 0; at < group.size(); at += kWordCodes) {
        append(out[0], int4_word(group.subspan(at, kWordCodes), scale));
      }
      append(out[1], stored);
    }
  }
  append(out[2], matrix.shape[0]);
  append(out[2], matrix.shape[1]);
  return out;
}

// The nearest E2M1 code, ties to even; zero has no sign.
unsigned e2m1_code(float value) {
  // Between two neighbours, and whether the middle itself goes down.
  constexpr std::array<std::pair<float, bool>, 7> kMiddles = {
      {{0.25F, true},
       {0.75F, false},
       {1.25F, true},
       {1.75F, false},
       {2.5F, true},
       {3.5F, false},
       {5.0F, true}}};
  const float magnitude = std::fabs(value);
  unsigned code = 0;
  for (const auto& [middle, down] : kMiddles) {
    if (magnitude > middle || (magnitude == middle && !down)) ++code;
  }
  return code > 0 && value < 0 ? code | 8U : code;
}

// The power of two under which the largest weight of a group lies between 4 and 8, the largest code
// being 6; what lies above becomes 6.
int mxfp4_exponent(float largest_weight) {
  constexpr int kLargestCodeExponent = 2;
  constexpr int kExponentMax = 127;
  if (largest_weight == 0.0F) return 0;
  return std::clamp(std::ilogb(largest_weight) - kLargestCodeExponent, -kExponentMax, kExponentMax);
}

// `matrix` is [inputs, outputs].
Result<Tensors> quantize_mxfp4(const device::TensorView& matrix) {
  const auto inputs = static_cast<std::size_t>(matrix.shape[0]);
  const auto outputs = static_cast<std::size_t>(matrix.shape[1]);
  constexpr auto kWidth = static_cast<std::size_t>(kGroup);
  const std::size_t groups = inputs / kWidth;
  Tensors out = {
      std::vector<std::byte>(outputs * groups * kWidth / 2),
      std::vector<std::byte>(outputs * groups)};
  const Rows rows(matrix);
  for (std::size_t group = 0; group < groups; ++group) {
    std::vector<std::vector<float>> band;
    for (std::size_t i = 0; i < kWidth; ++i) {
      PLEIAD_TRY(weights, rows.read(static_cast<std::int64_t>(group * kWidth + i)));
      band.push_back(std::move(weights));
    }
    for (std::size_t output = 0; output < outputs; ++output) {
      float top_weight = 0.0F;
      for (const std::vector<float>& row : band) {
        top_weight = std::max(top_weight, std::fabs(row[output]));
      }
      const int exponent = mxfp4_exponent(top_weight);
      const std::size_t at = output * groups + group;
      out[1][at] = static_cast<std::byte>(exponent + 127);
      for (std::size_t i = 0; i < kWidth; i += 2) {
        const unsigned low = e2m1_code(std::ldexp(band[i][output], -exponent));
        const unsigned high = e2m1_code(std::ldexp(band[i + 1][output], -exponent));
        out[0][(at * kWidth + i) / 2] = static_cast<std::byte>(low | (high << 4U));
      }
    }
  }
  return out;
}

}  // namespace

bool is_for_stacks(QuantScheme scheme) {
  return scheme == QuantScheme::MxFp4;
}

std::string_view to_string(QuantScheme scheme) {
  for (const auto& [known, name] : kNames) {
    if (known == scheme) return name;
  }
  return "";
}

std::optional<QuantScheme> parse_quant_scheme(std::string_view name) {
  for (const auto& [scheme, known] : kNames) {
    if (known == name) return scheme;
  }
  return std::nullopt;
}

bool can_quantize(const device::Shape& shape, QuantScheme scheme) {
  const std::size_t rank = is_for_stacks(scheme) ? 3 : 2;
  if (shape.rank != rank || shape.elements() == 0) return false;
  switch (scheme) {
    case QuantScheme::W8A8:
      return shape[1] % kWordCodes == 0;
    case QuantScheme::Fp8Block:
      return true;
    case QuantScheme::Int4Group32:
    case QuantScheme::MxFp4:
      return shape[1] % kGroup == 0;
  }
  return false;
}

std::vector<TensorPlan>
plan_quantized(std::string_view name, const device::Shape& shape, QuantScheme scheme) {
  if (scheme == QuantScheme::MxFp4) {
    const std::int64_t groups = shape[1] / kGroup;
    const std::string stack(name);
    return {
        {stack + "_blocks",
         device::DType::U8,
         {.extents = {shape[0], shape[2], groups, kGroup / 2}, .rank = 4}},
        {stack + "_scales",
         device::DType::U8,
         {.extents = {shape[0], shape[2], groups}, .rank = 3}}};
  }
  const std::string stem = stem_of(name);
  const std::int64_t outputs = shape[0];
  const std::int64_t inputs = shape[1];
  switch (scheme) {
    case QuantScheme::W8A8:
      return {
          {stem + "weight", device::DType::I8, shape},
          {stem + "weight_scale", device::DType::F32, shape_of(outputs, 1)}};
    case QuantScheme::Fp8Block:
      return {
          {stem + "weight", device::DType::F8E4M3, shape},
          {stem + "weight_scale_inv",
           device::DType::F32,
           shape_of(blocks(outputs), blocks(inputs))}};
    case QuantScheme::Int4Group32:
      return {
          {stem + "weight_packed", device::DType::I32, shape_of(outputs, inputs / kWordCodes)},
          {stem + "weight_scale", device::DType::BF16, shape_of(outputs, inputs / kGroup)},
          {stem + "weight_shape", device::DType::I64, {.extents = {2}, .rank = 1}}};
    case QuantScheme::MxFp4:
      break;
  }
  return {};
}

Result<Tensors> quantize_matrix(const device::TensorView& matrix, QuantScheme scheme) {
  PLEIAD_CHECK(is_for_stacks(scheme) || can_quantize(matrix.shape, scheme));
  switch (scheme) {
    case QuantScheme::W8A8:
      return quantize_w8a8(matrix);
    case QuantScheme::Fp8Block:
      return quantize_fp8(matrix);
    case QuantScheme::Int4Group32:
      return quantize_int4(matrix);
    case QuantScheme::MxFp4:
      PLEIAD_CHECK(matrix.shape.rank == 2 && matrix.shape[0] % kGroup == 0, "groups of inputs");
      return quantize_mxfp4(matrix);
  }
  return Tensors{};
}

}  // namespace pleiad::weights
