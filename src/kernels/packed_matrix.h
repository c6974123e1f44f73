#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "device/tensor_view.h"
#include "kernels/context.h"

namespace pleiad::kernels {

// A block of a checkpoint tensor that becomes rows of a packed matrix. Rows and columns are those
// of the tensor as it is stored, also when the block is transposed.
struct MatrixSource {
  device::TensorView tensor;    // [rows, columns] or [extent, rows, columns]; F32, BF16 or F16
  std::int64_t index = -1;      // which matrix of the leading extent; -1: there is no such extent
  std::int64_t row_begin = 0;   // first row of the block
  std::int64_t row_count = -1;  // rows of the block; -1: to the end
  std::int64_t row_step = 1;    // the block takes every row_step-th row
  std::int64_t column_begin = 0;
  std::int64_t column_count = -1;  // columns of the block; -1: to the end
  std::int64_t column_step = 1;
  bool transposed = false;  // use the block's transpose: its columns become outputs
};

// A weight matrix W [outputs, inputs] in the order gemm() reads it: panels of kPanel outputs,
// inputs innermost but one, so that a panel streams through the cache once whatever the number of
// rows. Elements are float (Float32) or BF16 (BFloat16, pairs of inputs side by side). Borrows its
// memory; copying copies the view.
class PackedMatrix {
 public:
  static constexpr std::int64_t kPanel = 16;

  // Bytes that pack() needs for W [outputs, inputs].
  static std::size_t bytes(std::int64_t outputs, std::int64_t inputs, Compute compute);

  // Packs the sources, stacked along outputs, into `memory` (64-byte aligned, at least bytes()).
  // Converting to BF16 rounds to nearest even; F16 and F32 sources are accepted for both computes.
  // Fails with InvalidInput when the sources' inputs differ or a block lies outside its tensor.
  static Result<PackedMatrix>
  pack(std::span<const MatrixSource> sources, Compute compute, std::span<std::byte> memory);

  PackedMatrix() = default;

  [[nodiscard]] std::int64_t outputs() const { return outputs_; }
  [[nodiscard]] std::int64_t inputs() const { return inputs_; }
  [[nodiscard]] Compute compute() const { return compute_; }
  // Panel p holds outputs [p * kPanel, (p + 1) * kPanel); the last one is padded with zeros.
  [[nodiscard]] std::int64_t panels() const { return (outputs_ + kPanel - 1) / kPanel; }
  [[nodiscard]] const std::byte* panel(std::int64_t index) const;
  [[nodiscard]] std::size_t panel_bytes() const;

 private:
  const std::byte* memory_ = nullptr;
  std::int64_t outputs_ = 0;
  std::int64_t inputs_ = 0;
  Compute compute_ = Compute::Float32;
};

}  // namespace pleiad::kernels
