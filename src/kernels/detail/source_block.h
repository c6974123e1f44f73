#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/result.h"
#include "device/tensor_view.h"
#include "kernels/packed_matrix.h"

// Which part of a tensor a MatrixSource means. Errors name the source by its place in the stack.
namespace pleiad::kernels::detail {

// Every step-th place of an extent, from `begin` on.
struct Places {
  std::int64_t begin = 0;
  std::int64_t count = 0;
  std::int64_t step = 1;

  [[nodiscard]] std::int64_t at(std::int64_t index) const { return begin + index * step; }
};

// A source's rows and columns, with their counts known.
struct SourceBlock {
  Places rows;
  Places columns;
  bool transposed = false;

  [[nodiscard]] const Places& outputs() const { return transposed ? columns : rows; }
  [[nodiscard]] const Places& inputs() const { return transposed ? rows : columns; }
};

// The block of `source` in a matrix [rows, columns]. Fails when it leaves the matrix.
Result<SourceBlock> source_block(
    const MatrixSource& source,
    std::size_t index,
    std::int64_t rows,
    std::int64_t columns
);

// `tensor`, or with `stacked` >= 0 that tensor of its leading extent, when it then has `rank`
// extents and as many bytes as its shape says. `what` names it in errors, "its scales".
Result<device::TensorView> tensor_of(
    const device::TensorView& tensor,
    std::int64_t stacked,
    std::size_t rank,
    std::string_view what
);

}  // namespace pleiad::kernels::detail
