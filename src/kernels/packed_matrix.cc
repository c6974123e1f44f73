#include "kernels/packed_matrix.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <type_traits>

#include "base/check.h"

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

// Every step-th place of a tensor's extent; a count of -1 goes to the end.
struct Part {
  std::int64_t begin = 0;
  std::int64_t count = 0;
  std::int64_t step = 1;
};

// The count of `part`, when it lies inside `extent`.
Result<std::size_t>
part_of(std::string_view what, std::size_t index, const Part& part, std::int64_t extent) {
  if (part.step < 1) {
    return invalid_input("matrix source {}: a step of {} {}", index, part.step, what);
  }
  const std::int64_t left = extent - part.begin;
  const std::int64_t most = left / part.step + (left % part.step != 0 ? 1 : 0);
  const std::int64_t count = part.count < 0 ? most : part.count;
  const bool inside = part.begin >= 0 && left >= 0 && count >= 0 && count <= most;
  if (inside) return static_cast<std::size_t>(count);
  return invalid_input(
      "matrix source {}: {} [{}, {} + {}) lie outside its {} {}{}",
      index,
      what,
      part.begin,
      part.begin,
      count,
      extent,
      what,
      part.step == 1 ? "" : fmt::format(", in steps of {}", part.step)
  );
}

// The matrix that `source` means: its tensor, or one of those stacked in it.
Result<device::TensorView> matrix_of(const MatrixSource& source, std::size_t index) {
  device::TensorView view = source.tensor;
  const std::size_t rank = source.index < 0 ? 2 : 3;
  if (view.shape.rank != rank) {
    return invalid_input(
        "matrix source {}: rank {}, {} has {}",
        index,
        view.shape.rank,
        rank == 2 ? "a matrix" : "a stack of matrices",
        rank
    );
  }
  const auto bytes = static_cast<std::size_t>(view.shape.elements()) * device::size_of(view.dtype);
  if (view.bytes.size() != bytes) {
    return invalid_input(
        "matrix source {}: its bytes are not {} x {}",
        index,
        view.shape[rank - 2],
        view.shape[rank - 1]
    );
  }
  if (source.index < 0) return view;
  const std::int64_t extent = view.shape[0];
  if (source.index >= extent) {
    return invalid_input(
        "matrix source {}: index {} of {} stacked matrices", index, source.index, extent
    );
  }
  const std::size_t one = bytes / static_cast<std::size_t>(extent);
  view.bytes = view.bytes.subspan(static_cast<std::size_t>(source.index) * one, one);
  view.shape = {.extents = {view.shape[1], view.shape[2]}, .rank = 2};
  return view;
}

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
  PLEIAD_TRY(matrix, matrix_of(source, index));
  const Part rows = {source.row_begin, source.row_count, source.row_step};
  const Part columns = {source.column_begin, source.column_count, source.column_step};
  PLEIAD_TRY(height, part_of("rows", index, rows, matrix.shape[0]));
  PLEIAD_TRY(width, part_of("columns", index, columns, matrix.shape[1]));
  const auto line = static_cast<std::size_t>(matrix.shape[1]);
  const std::size_t skipped =
      static_cast<std::size_t>(rows.begin) * line + static_cast<std::size_t>(columns.begin);
  const std::byte* first = matrix.bytes.data() + skipped * device::size_of(dtype);
  const std::size_t row_step = static_cast<std::size_t>(rows.step) * line;
  const auto column_step = static_cast<std::size_t>(columns.step);
  if (source.transposed) return Block{first, column_step, row_step, width, height, dtype};
  return Block{first, row_step, column_step, height, width, dtype};
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

std::size_t bytes_of_panel(std::int64_t inputs, Compute compute) {
  const auto count = static_cast<std::size_t>(inputs);
  switch (compute) {
    case Compute::Float32:
      return count * kLanes * sizeof(float);
    case Compute::BFloat16:
      return (count + 1) / 2 * 2 * kLanes * sizeof(device::BF16);
  }
  return 0;
}

}  // namespace

std::size_t PackedMatrix::bytes(std::int64_t outputs, std::int64_t inputs, Compute compute) {
  const auto panels = static_cast<std::size_t>((outputs + kPanel - 1) / kPanel);
  return panels * bytes_of_panel(inputs, compute);
}

Result<PackedMatrix> PackedMatrix::pack(
    std::span<const MatrixSource> sources,
    Compute compute,
    std::span<std::byte> memory
) {
  if (sources.empty()) return invalid_input("a packed matrix needs at least one source");
  std::size_t outputs = 0;
  std::size_t inputs = 0;
  for (std::size_t i = 0; i < sources.size(); ++i) {
    PLEIAD_TRY(block, block_of(sources[i], i));
    if (i > 0 && block.inputs != inputs) {
      return invalid_input(
          "matrix source {}: {} inputs, the sources before it have {}", i, block.inputs, inputs
      );
    }
    inputs = block.inputs;
    outputs += block.outputs;
  }
  if (outputs == 0 || inputs == 0) return invalid_input("matrix of {} x {}", outputs, inputs);

  PackedMatrix matrix;
  matrix.outputs_ = static_cast<std::int64_t>(outputs);
  matrix.inputs_ = static_cast<std::int64_t>(inputs);
  matrix.compute_ = compute;
  matrix.memory_ = memory.data();
  const std::size_t needed = bytes(matrix.outputs_, matrix.inputs_, compute);
  PLEIAD_CHECK(memory.size() >= needed, "memory of at least bytes()");
  PLEIAD_CHECK(
      reinterpret_cast<std::uintptr_t>(memory.data()) % kAlignment == 0, "64-byte aligned"
  );

  const std::size_t panel_bytes = matrix.panel_bytes();
  if (outputs % kLanes != 0) std::memset(memory.data() + needed - panel_bytes, 0, panel_bytes);
  std::size_t packed = 0;
  for (std::size_t i = 0; i < sources.size(); ++i) {
    PLEIAD_TRY(block, block_of(sources[i], i));
    for (std::size_t output = 0; output < block.outputs;) {
      const std::size_t lane = packed % kLanes;
      const std::size_t count = std::min(kLanes - lane, block.outputs - output);
      pack_lanes(
          {&block, output, lane, count}, compute, memory.data() + packed / kLanes * panel_bytes
      );
      output += count;
      packed += count;
    }
  }
  return matrix;
}

const std::byte* PackedMatrix::panel(std::int64_t index) const {
  return memory_ + static_cast<std::size_t>(index) * panel_bytes();
}

std::size_t PackedMatrix::panel_bytes() const {
  return bytes_of_panel(inputs_, compute_);
}

}  // namespace pleiad::kernels
