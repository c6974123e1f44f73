#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "device/tensor_view.h"
#include "kernels/context.h"
#include "kernels/weight_format.h"

namespace pleiad::kernels {

// A block of a checkpoint tensor that becomes rows of a packed matrix. Rows and columns are those
// of the tensor as it is stored, also when the block is transposed; of a quantised tensor they are
// those of the weights it stands for.
struct MatrixSource {
  // [rows, columns] or, with an index, [extent, rows, columns]:
  //   Plain        F32, BF16 or F16
  //   Fp8Block     F8_E4M3
  //   Int8Channel  I8
  //   Int4Group32  I32 [rows, columns / 8]: eight codes a word, lowest bits first; code - 8
  //   MxFp4        U8 [rows, columns / 32, 16]: two codes a byte, lower half first
  device::TensorView tensor;
  std::int64_t index = -1;      // which matrix of the leading extent; -1: there is no such extent
  std::int64_t row_begin = 0;   // first row of the block
  std::int64_t row_count = -1;  // rows of the block; -1: to the end
  std::int64_t row_step = 1;    // the block takes every row_step-th row
  std::int64_t column_begin = 0;
  std::int64_t column_count = -1;  // columns of the block; -1: to the end
  std::int64_t column_step = 1;
  bool transposed = false;  // use the block's transpose: its columns become outputs

  WeightFormat format = WeightFormat::Plain;
  // Of a quantised tensor, with the same leading extent; weight = code * scale:
  //   Fp8Block     [ceil(rows / scale_rows), ceil(columns / scale_columns)], floats or F8_E8M0
  //   Int8Channel  [rows] or [rows, 1], floats
  //   Int4Group32  [rows, columns / 32], floats
  //   MxFp4        [rows, columns / 32], U8 or F8_E8M0
  device::TensorView scales;
  std::int64_t scale_rows = 128;  // Fp8Block: extents of the block that shares a scale
  std::int64_t scale_columns = 128;
};

// A weight matrix W [outputs, inputs] in the order gemm() reads it: panels of kPanel outputs,
// inputs innermost but one, so that a panel streams through the cache once whatever the number of
// rows. Quantised weights stay as they are stored (PanelLayout). Borrows its memory; copying copies
// the view.
//
// What a quantised block must keep to: its inputs are consecutive, the first a multiple of 8 (it
// may cut a scale's group); Int8Channel, Int4Group32 and MxFp4 cannot be transposed, because their
// scales belong to stored rows. Outputs may be any.
class PackedMatrix {
 public:
  static constexpr std::int64_t kPanel = 16;

  // Bytes that pack() needs for Plain sources of W [outputs, inputs] in all.
  static std::size_t bytes(std::int64_t outputs, std::int64_t inputs, Compute compute);

  // Bytes that pack() needs for these sources. Reads their scales but no weights; fails like
  // pack(), but for codes that are no number.
  static Result<std::size_t> bytes(std::span<const MatrixSource> sources, Compute compute);

  // A matrix of the shape and layout that pack() gives these sources, without numbers: its panels
  // must not be read. Fails like bytes().
  static Result<PackedMatrix> plan(std::span<const MatrixSource> sources, Compute compute);

  // Packs the sources, stacked along outputs, into `memory` (64-byte aligned, at least bytes()).
  // Converting to BF16 rounds to nearest even; F16 and F32 sources are accepted for both computes.
  // Fails with InvalidInput, naming the source and the place: the sources' inputs or formats
  // differ, a block lies outside its tensor or breaks the rules above, shapes or dtypes are not the
  // format's, a scale is not finite or makes its largest weight so (Fp8Block: is not below 256), an
  // E4M3 code is NaN.
  static Result<PackedMatrix>
  pack(std::span<const MatrixSource> sources, Compute compute, std::span<std::byte> memory);

  PackedMatrix() = default;

  [[nodiscard]] std::int64_t outputs() const { return outputs_; }
  [[nodiscard]] std::int64_t inputs() const { return layout_.inputs; }
  [[nodiscard]] Compute compute() const { return layout_.compute; }
  [[nodiscard]] WeightFormat format() const { return layout_.format; }
  [[nodiscard]] const PanelLayout& layout() const { return layout_; }
  // Panel p holds outputs [p * kPanel, (p + 1) * kPanel); the last one is padded with zeros.
  [[nodiscard]] std::int64_t panels() const { return (outputs_ + kPanel - 1) / kPanel; }
  [[nodiscard]] const std::byte* panel(std::int64_t index) const;
  [[nodiscard]] std::size_t panel_bytes() const { return layout_.bytes(); }

  // The stored number and its scale (1 for Plain): W[output, input] is their product. Slow: for
  // references.
  [[nodiscard]] float code(std::int64_t output, std::int64_t input) const;
  [[nodiscard]] float scale(std::int64_t output, std::int64_t input) const;

 private:
  PackedMatrix(std::int64_t outputs, const PanelLayout& layout, const std::byte* memory)
      : memory_(memory), outputs_(outputs), layout_(layout) {}

  const std::byte* memory_ = nullptr;
  std::int64_t outputs_ = 0;
  PanelLayout layout_;
};

}  // namespace pleiad::kernels
