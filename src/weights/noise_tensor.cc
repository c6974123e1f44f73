#include "weights/noise_tensor.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <map>
#include <string_view>
#include <tuple>

#include "base/random.h"

namespace pleiad::weights {
namespace {

using device::DType;
using device::TensorView;

// Tensors of one kind share a block.
using Kind = std::tuple<DType, float, float>;

constexpr std::size_t kAlignment = 64;

Kind kind_of(const NoiseTensor& tensor) {
  return {tensor.dtype, tensor.mean, tensor.deviation};
}

std::size_t bytes_of(const NoiseTensor& tensor) {
  return static_cast<std::size_t>(tensor.shape.elements()) * device::size_of(tensor.dtype);
}

// Where in its block a tensor begins: elsewhere for every name, so that matrices differ.
std::size_t begin_of(std::string_view name) {
  std::uint64_t hash = 0xCBF29CE484222325U;
  for (const char c : name) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3U;
  }
  return (hash ^ hash >> 32U) % (RepeatedMemory::kBlockBytes / kAlignment) * kAlignment;
}

// A sum of four uniform numbers, whose deviation is sqrt(4 / 12).
float noise(Random& random) {
  const std::uint64_t bits = random.next();
  std::uint64_t sum = 0;
  for (unsigned i = 0; i < 4; ++i) {
    sum += (bits >> (16U * i)) & 0xFFFFU;
  }
  return (static_cast<float>(sum) / 65536.0F - 2.0F) * 1.7320508F;
}

template <typename T, typename Convert>
void fill(std::span<std::byte> block, const NoiseTensor& like, const Convert& convert) {
  Random random(1);
  const bool constant = like.deviation == 0.0F;
  for (std::size_t at = 0; at < block.size(); at += sizeof(T)) {
    const float value = constant ? like.mean : like.mean + like.deviation * noise(random);
    const T stored = convert(value);
    std::memcpy(block.data() + at, &stored, sizeof(T));
  }
}

void fill_bits(std::span<std::byte> block) {
  Random random(1);
  for (std::size_t at = 0; at < block.size(); at += sizeof(std::uint64_t)) {
    const std::uint64_t bits = random.next();
    std::memcpy(block.data() + at, &bits, sizeof(bits));
  }
}

std::int8_t to_int8(float value) {
  return static_cast<std::int8_t>(std::clamp(std::nearbyint(value), -127.0F, 127.0F));
}

std::uint16_t to_f16(float value) {
  // Numbers of a model's weights are normal in half precision or as good as zero.
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = bits >> 16U & 0x8000U;
  const int exponent = static_cast<int>(bits >> 23U & 0xFFU) - 127 + 15;
  if (exponent <= 0) return static_cast<std::uint16_t>(sign);
  const std::uint32_t rounded =
      (static_cast<std::uint32_t>(std::min(exponent, 30)) << 10U) + ((bits & 0x7FFFFFU) >> 13U);
  return static_cast<std::uint16_t>(sign | rounded);
}

std::uint8_t to_power(float value) {
  return static_cast<std::uint8_t>(std::clamp(std::ilogb(value) + 127, 0, 254));
}

Result<void> fill_block(std::span<std::byte> block, const NoiseTensor& like) {
  switch (like.dtype) {
    case DType::F32:
      fill<float>(block, like, [](float value) { return value; });
      return {};
    case DType::BF16:
      fill<device::BF16>(block, like, device::float_to_bf16);
      return {};
    case DType::F16:
      fill<std::uint16_t>(block, like, to_f16);
      return {};
    case DType::F8E4M3:
      fill<std::uint8_t>(block, like, device::float_to_f8e4m3);
      return {};
    case DType::I8:
      fill<std::int8_t>(block, like, to_int8);
      return {};
    case DType::F8E8M0:
      fill<std::uint8_t>(block, like, to_power);
      return {};
    case DType::U8:
      if (like.deviation == 0.0F) {
        fill<std::uint8_t>(block, like, to_power);
        return {};
      }
      fill_bits(block);
      return {};
    case DType::I32:
      fill_bits(block);
      return {};
    case DType::I16:
    case DType::I64:
    case DType::Bool:
    case DType::F64:
      break;
  }
  return invalid_input(
      "tensor {}: no numbers of type {} are made up", like.name, device::to_string(like.dtype)
  );
}

}  // namespace

Result<std::vector<TensorView>>
make_noise(const std::vector<NoiseTensor>& tensors, std::vector<RepeatedMemory>& memory) {
  std::map<Kind, std::size_t> longest;
  for (const NoiseTensor& tensor : tensors) {
    std::size_t& bytes = longest[kind_of(tensor)];
    bytes = std::max(bytes, bytes_of(tensor));
  }
  std::map<Kind, std::size_t> places;  // in `memory`
  std::vector<TensorView> out;
  for (const NoiseTensor& tensor : tensors) {
    const Kind kind = kind_of(tensor);
    const auto [at, is_new] = places.try_emplace(kind, memory.size());
    if (is_new) {
      PLEIAD_TRY(made, RepeatedMemory::create(longest[kind] + RepeatedMemory::kBlockBytes));
      PLEIAD_TRY(fill_block(made.block(), tensor));
      memory.push_back(std::move(made));
    }
    const auto bytes = memory[at->second].bytes().subspan(begin_of(tensor.name), bytes_of(tensor));
    out.push_back({.bytes = bytes, .dtype = tensor.dtype, .shape = tensor.shape});
  }
  return out;
}

}  // namespace pleiad::weights
