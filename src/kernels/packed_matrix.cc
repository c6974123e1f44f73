#include "kernels/packed_matrix.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

#include "base/check.h"
#include "kernels/detail/coded_source.h"
#include "kernels/detail/source_block.h"

namespace pleiad::kernels {
namespace {

using device::DType;

constexpr std::size_t kAlignment = 64;
constexpr auto kLanes = static_cast<std::size_t>(PackedMatrix::kPanel);

// A block of a source with its extents as the packed matrix sees them.
struct Block {
  const std::byte* first = nullptr;  // element [0, 0]
  std::size_t output_step = 0;       // elements from one output to the next
  std::size_t input_step = 0;
  std::size_t outputs = 0;
  std::size_t inputs = 0;
  DType dtype = DType::F32;
};

// Up to kLanes outputs of a block, and the lanes of a panel they become.
struct Lanes {
  const Block* block = nullptr;
  std::size_t output = 0;  // first output, within the block
  std::size_t lane = 0;    // first lane of the panel
  std::size_t count = 0;
};

Result<Block> block_of(const MatrixSource& source, std::size_t index) {
  const DType dtype = source.tensor.dtype;
  const bool known = dtype == DType::F32 || dtype == DType::BF16 || dtype == DType::F16;
  if (!known) {
    return invalid_input(
        "matrix source {}: dtype {} cannot be packed, F32, BF16 and F16 can",
        index,
        device::to_string(dtype)
    );
  }
  const std::string what = fmt::format("matrix source {}", index);
  PLEIAD_TRY(matrix, detail::tensor_of(source.tensor, source.index, 2, what));
  PLEIAD_TRY(block, detail::source_block(source, index, matrix.shape[0], matrix.shape[1]));
  const auto line = static_cast<std::size_t>(matrix.shape[1]);
  const std::size_t skipped = static_cast<std::size_t>(block.rows.begin) * line +
                              static_cast<std::size_t>(block.columns.begin);
  const std::size_t row_step = static_cast<std::size_t>(block.rows.step) * line;
  const auto column_step = static_cast<std::size_t>(block.columns.step);
  return Block{
      .first = matrix.bytes.data() + skipped * device::size_of(dtype),
      .output_step = block.transposed ? column_step : row_step,
      .input_step = block.transposed ? row_step : column_step,
      .outputs = static_cast<std::size_t>(block.outputs().count),
      .inputs = static_cast<std::size_t>(block.inputs().count),
      .dtype = dtype,
  };
}

template <typename T>
T element_at(const std::byte* bytes, std::size_t index) {
  T value{};
  std::memcpy(&value, bytes + index * sizeof(T), sizeof(T));
  return value;
}

template <DType kDType>
float float_at(const std::byte* bytes, std::size_t index) {
  if constexpr (kDType == DType::F32) return element_at<float>(bytes, index);
  if constexpr (kDType == DType::BF16) {
    return device::bf16_to_float(element_at<device::BF16>(bytes, index));
  }
  return device::f16_to_float(element_at<std::uint16_t>(bytes, index));
}

template <DType kDType>
device::BF16 bf16_at(const std::byte* bytes, std::size_t index) {
  if constexpr (kDType == DType::BF16) return element_at<device::BF16>(bytes, index);
  return device::float_to_bf16(float_at<kDType>(bytes, index));
}

// Inputs moved at a time: each output's share of a block is read in one go, because the outputs of
// a panel often lie a multiple of 4096 bytes apart and would evict each other from the cache.
constexpr std::size_t kBlockInputs = 32;

template <typename T>
using Staged = std::array<std::array<T, kBlockInputs>, kLanes>;  // [lane][input]

template <DType kDType, typename T>
T element_as(const std::byte* bytes, std::size_t index) {
  if constexpr (std::is_same_v<T, float>) {
    return float_at<kDType>(bytes, index);
  } else {
    return bf16_at<kDType>(bytes, index);
  }
}

// Reads `count` inputs from `first` on of every lane, along the source's lines.
template <DType kDType, typename T>
void stage(const Lanes& lanes, std::size_t first, std::size_t count, Staged<T>& staged) {
  constexpr bool kSameType = kDType == DType::BF16 && std::is_same_v<T, device::BF16>;
  const Block& block = *lanes.block;
  const std::size_t begin = lanes.output * block.output_step + first * block.input_step;
  if (block.input_step != 1) {
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t at = begin + i * block.input_step;
      for (std::size_t lane = 0; lane < lanes.count; ++lane) {
        staged[lane][i] = element_as<kDType, T>(block.first, at + lane * block.output_step);
      }
    }
    return;
  }
  for (std::size_t lane = 0; lane < lanes.count; ++lane) {
    const std::size_t at = begin + lane * block.output_step;
    if (kSameType && count == kBlockInputs) {
      std::memcpy(staged[lane].data(), block.first + at * sizeof(T), kBlockInputs * sizeof(T));
      continue;
    }
    for (std::size_t i = 0; i < count; ++i) {
      staged[lane][i] = element_as<kDType, T>(block.first, at + i);
    }
  }
}

template <DType kDType>
void pack_floats(const Lanes& lanes, std::byte* panel) {
  Staged<float> staged;
  const std::size_t inputs = lanes.block->inputs;
  for (std::size_t first = 0; first < inputs; first += kBlockInputs) {
    const std::size_t count = std::min(kBlockInputs, inputs - first);
    stage<kDType>(lanes, first, count, staged);
    for (std::size_t i = 0; i < count; ++i) {
      std::byte* out = panel + ((first + i) * kLanes + lanes.lane) * sizeof(float);
      for (std::size_t lane = 0; lane < lanes.count; ++lane) {
        std::memcpy(out + lane * sizeof(float), &staged[lane][i], sizeof(float));
      }
    }
  }
}

template <DType kDType>
void pack_pairs(const Lanes& lanes, std::byte* panel) {
  constexpr std::size_t kPairBytes = 2 * sizeof(device::BF16);
  Staged<device::BF16> staged;
  const std::size_t inputs = lanes.block->inputs;
  for (std::size_t first = 0; first < inputs; first += kBlockInputs) {
    const std::size_t count = std::min(kBlockInputs, inputs - first);
    stage<kDType>(lanes, first, count, staged);
    if (count % 2 != 0) {
      for (auto& line : staged) {
        line[count] = 0;
      }
    }
    for (std::size_t i = 0; i < count; i += 2) {
      std::byte* out = panel + ((first + i) / 2 * kLanes + lanes.lane) * kPairBytes;
      for (std::size_t lane = 0; lane < lanes.count; ++lane) {
        std::memcpy(out + lane * kPairBytes, &staged[lane][i], kPairBytes);
      }
    }
  }
}

template <DType kDType>
void pack_lanes_of(const Lanes& lanes, Compute compute, std::byte* panel) {
  switch (compute) {
    case Compute::Float32:
      pack_floats<kDType>(lanes, panel);
      break;
    case Compute::BFloat16:
      pack_pairs<kDType>(lanes, panel);
      break;
  }
}

void pack_lanes(const Lanes& lanes, Compute compute, std::byte* panel) {
  if (lanes.block->dtype == DType::BF16) {
    pack_lanes_of<DType::BF16>(lanes, compute, panel);
  } else if (lanes.block->dtype == DType::F16) {
    pack_lanes_of<DType::F16>(lanes, compute, panel);
  } else {
    pack_lanes_of<DType::F32>(lanes, compute, panel);
  }
}

// Checked sources, and the matrix they make.
struct Plan {
  std::vector<Block> blocks;  // of Plain sources
  std::vector<detail::CodedSource> coded;
  std::int64_t outputs = 0;
  PanelLayout layout;

  [[nodiscard]] std::size_t bytes() const {
    const auto panels =
        static_cast<std::size_t>((outputs + PackedMatrix::kPanel - 1) / PackedMatrix::kPanel);
    return panels * layout.bytes();
  }
};

Result<Plan> plan_of(std::span<const MatrixSource> sources, Compute compute) {
  if (sources.empty()) return invalid_input("a packed matrix needs at least one source");
  Plan plan;
  const WeightFormat format = sources.front().format;
  for (std::size_t i = 0; i < sources.size(); ++i) {
    if (sources[i].format != format) {
      return invalid_input(
          "matrix source {}: is stored as {}, the sources before it as {}; one matrix has one "
          "format",
          i,
          to_string(sources[i].format),
          to_string(format)
      );
    }
    std::int64_t inputs = 0;
    if (format == WeightFormat::Plain) {
      PLEIAD_TRY(block, block_of(sources[i], i));
      inputs = static_cast<std::int64_t>(block.inputs);
      plan.outputs += static_cast<std::int64_t>(block.outputs);
      plan.blocks.push_back(block);
    } else {
      PLEIAD_TRY(coded, detail::coded_source(sources[i], i));
      inputs = coded.block.inputs().count;
      plan.outputs += coded.block.outputs().count;
      plan.coded.push_back(coded);
    }
    if (i > 0 && inputs != plan.layout.inputs) {
      return invalid_input(
          "matrix source {}: {} inputs, the sources before it have {}",
          i,
          inputs,
          plan.layout.inputs
      );
    }
    plan.layout = {.compute = compute, .inputs = inputs};
  }
  const bool empty = plan.outputs == 0 || plan.layout.inputs == 0;
  if (empty) return invalid_input("matrix of {} x {}", plan.outputs, plan.layout.inputs);
  if (format != WeightFormat::Plain) plan.layout = detail::layout_of(plan.coded, compute);
  return plan;
}

void pack_blocks(const Plan& plan, std::byte* memory) {
  const std::size_t panel_bytes = plan.layout.bytes();
  const auto outputs = static_cast<std::size_t>(plan.outputs);
  if (outputs % kLanes != 0) {
    std::memset(memory + outputs / kLanes * panel_bytes, 0, panel_bytes);
  }
  std::size_t packed = 0;
  for (const Block& block : plan.blocks) {
    for (std::size_t output = 0; output < block.outputs;) {
      const std::size_t lane = packed % kLanes;
      const std::size_t count = std::min(kLanes - lane, block.outputs - output);
      pack_lanes(
          {&block, output, lane, count}, plan.layout.compute, memory + packed / kLanes * panel_bytes
      );
      output += count;
      packed += count;
    }
  }
}

// The code of `input` in the lane of a panel, whose word is `bits`.
float code_value(WeightFormat format, std::uint32_t bits, std::int64_t input) {
  const auto place = static_cast<unsigned>(input % inputs_per_word(format));
  const auto byte = static_cast<std::uint8_t>(bits >> (8 * (place % 4)));
  const unsigned nibble = (bits >> (4 * place)) & 0xFU;
  constexpr std::array<float, 8> kE2m1 = {0.0F, 0.5F, 1.0F, 1.5F, 2.0F, 3.0F, 4.0F, 6.0F};
  switch (format) {
    case WeightFormat::Plain:
      break;
    case WeightFormat::Fp8Block:
      return device::f8e4m3_to_float(byte);
    case WeightFormat::Int8Channel:
      return static_cast<float>(static_cast<int>(byte) - 128);
    case WeightFormat::Int4Group32:
      return static_cast<float>(
          nibble < 8 ? static_cast<int>(nibble) : static_cast<int>(nibble) - 16
      );
    case WeightFormat::MxFp4:
      return nibble <= 8 ? kE2m1[nibble % 8] : -kE2m1[nibble - 8];
  }
  return 0.0F;
}

}  // namespace

std::size_t PackedMatrix::bytes(std::int64_t outputs, std::int64_t inputs, Compute compute) {
  return Plan{.outputs = outputs, .layout = {.compute = compute, .inputs = inputs}}.bytes();
}

Result<std::size_t> PackedMatrix::bytes(std::span<const MatrixSource> sources, Compute compute) {
  PLEIAD_TRY(plan, plan_of(sources, compute));
  return plan.bytes();
}

Result<PackedMatrix> PackedMatrix::plan(std::span<const MatrixSource> sources, Compute compute) {
  PLEIAD_TRY(plan, plan_of(sources, compute));
  return PackedMatrix(plan.outputs, plan.layout, nullptr);
}

Result<PackedMatrix> PackedMatrix::pack(
    std::span<const MatrixSource> sources,
    Compute compute,
    std::span<std::byte> memory
) {
  PLEIAD_TRY(plan, plan_of(sources, compute));
  PLEIAD_CHECK(memory.size() >= plan.bytes(), "memory of at least bytes()");
  PLEIAD_CHECK(
      reinterpret_cast<std::uintptr_t>(memory.data()) % kAlignment == 0, "64-byte aligned"
  );
  if (plan.layout.format == WeightFormat::Plain) {
    pack_blocks(plan, memory.data());
  } else {
    PLEIAD_TRY(detail::pack_codes(plan.coded, plan.layout, memory.data()));
  }
  return PackedMatrix(plan.outputs, plan.layout, memory.data());
}

const std::byte* PackedMatrix::panel(std::int64_t index) const {
  return memory_ + static_cast<std::size_t>(index) * panel_bytes();
}

float PackedMatrix::code(std::int64_t output, std::int64_t input) const {
  const std::byte* at = panel(output / kPanel) + layout_.codes_begin();
  const auto lane = static_cast<std::size_t>(output % kPanel);
  if (layout_.format == WeightFormat::Plain && layout_.compute == Compute::BFloat16) {
    const std::size_t pair = static_cast<std::size_t>(input / 2) * kLanes + lane;
    const std::size_t element = pair * 2 + static_cast<std::size_t>(input % 2);
    return device::bf16_to_float(element_at<device::BF16>(at, element));
  }
  const auto word = static_cast<std::size_t>(input / inputs_per_word(layout_.format));
  const auto bits = element_at<std::uint32_t>(at, word * kLanes + lane);
  if (layout_.format == WeightFormat::Plain) return std::bit_cast<float>(bits);
  return code_value(layout_.format, bits, input);
}

float PackedMatrix::scale(std::int64_t output, std::int64_t input) const {
  if (layout_.format == WeightFormat::Plain) return 1.0F;
  const device::TensorView scales = {
      .bytes = {panel(output / kPanel), layout_.codes_begin()},
      .dtype = layout_.scale_type,
      .shape = {},
  };
  const auto group = static_cast<std::size_t>(input / layout_.scale_inputs);
  return detail::scale_value(scales, group * kLanes + static_cast<std::size_t>(output % kPanel));
}

}  // namespace pleiad::kernels
