#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "device/tensor_view.h"
#include "kernels/detail/source_block.h"
#include "kernels/packed_matrix.h"

// Quantised tensors on their way into a PackedMatrix.
namespace pleiad::kernels::detail {

// A source whose shapes, dtypes and scales are those of its format.
struct CodedSource {
  std::size_t index = 0;  // place in the stack, for errors
  WeightFormat format = WeightFormat::Fp8Block;
  SourceBlock block;
  const std::byte* codes = nullptr;  // of the whole matrix
  std::size_t line = 0;              // bytes of codes of a stored row
  device::TensorView scales;         // one for scale_rows rows and scale_columns columns
  std::size_t scale_line = 0;        // scales of a stored row
  std::int64_t scale_rows = 1;
  std::int64_t scale_columns = 1;
};

// Checks everything about `source` but its codes; reads its scales.
Result<CodedSource> coded_source(const MatrixSource& source, std::size_t index);

// The layout that takes all of `sources` without a change of any scale: groups are as long as the
// scales allow, and shorter where blocks begin in the middle of one.
// REQUIRES: one format and number of inputs.
PanelLayout layout_of(std::span<const CodedSource> sources, Compute compute);

// Packs into panels of `layout`. Fails with InvalidInput at the first E4M3 code that is NaN.
Result<void>
pack_codes(std::span<const CodedSource> sources, const PanelLayout& layout, std::byte* memory);

// One scale of `view`, exact.
float scale_value(const device::TensorView& view, std::size_t at);

}  // namespace pleiad::kernels::detail
