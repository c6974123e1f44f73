#include "kernels/weight_format.h"

#include <array>

namespace pleiad::kernels {
namespace {

constexpr std::size_t kLanes = 16;
constexpr std::size_t kLine = 64;  // bytes of a cache line
constexpr std::array<std::string_view, 5> kNames =
    {"plain", "FP8 blocks", "INT8 channels", "INT4 groups", "MXFP4"};

std::size_t divide_up(std::int64_t a, std::int64_t b) {
  return static_cast<std::size_t>((a + b - 1) / b);
}

}  // namespace

std::string_view to_string(WeightFormat format) {
  return kNames[static_cast<std::size_t>(format)];
}

std::int64_t inputs_per_word(WeightFormat format) {
  switch (format) {
    case WeightFormat::Plain:
      return 1;
    case WeightFormat::Fp8Block:
    case WeightFormat::Int8Channel:
      return 4;
    case WeightFormat::Int4Group32:
    case WeightFormat::MxFp4:
      return 8;
  }
  return 1;
}

std::int64_t PanelLayout::groups() const {
  if (format == WeightFormat::Plain) return 0;
  return static_cast<std::int64_t>(divide_up(inputs, scale_inputs));
}

std::size_t PanelLayout::codes_begin() const {
  const std::size_t scales =
      static_cast<std::size_t>(groups()) * kLanes * device::size_of(scale_type);
  return (scales + kLine - 1) / kLine * kLine;
}

std::size_t PanelLayout::bytes() const {
  if (format != WeightFormat::Plain) {
    const std::size_t words = divide_up(inputs, inputs_per_word(format));
    return codes_begin() + words * kLanes * sizeof(std::uint32_t);
  }
  switch (compute) {
    case Compute::Float32:
      return static_cast<std::size_t>(inputs) * kLanes * sizeof(float);
    case Compute::BFloat16:
      return divide_up(inputs, 2) * kLanes * 2 * sizeof(device::BF16);
  }
  return 0;
}

}  // namespace pleiad::kernels
