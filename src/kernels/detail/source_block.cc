#include "kernels/detail/source_block.h"

#include <string>

namespace pleiad::kernels::detail {
namespace {

// `places` within `extent`; a count of -1 goes to the end.
Result<Places>
places_in(std::string_view what, std::size_t index, const Places& places, std::int64_t extent) {
  if (places.step < 1) {
    return invalid_input("matrix source {}: a step of {} {}", index, places.step, what);
  }
  const std::int64_t left = extent - places.begin;
  const std::int64_t most = left / places.step + (left % places.step != 0 ? 1 : 0);
  const std::int64_t count = places.count < 0 ? most : places.count;
  const bool inside = places.begin >= 0 && left >= 0 && count >= 0 && count <= most;
  if (inside) return Places{places.begin, count, places.step};
  return invalid_input(
      "matrix source {}: {} [{}, {} + {}) lie outside its {} {}{}",
      index,
      what,
      places.begin,
      places.begin,
      count,
      extent,
      what,
      places.step == 1 ? "" : fmt::format(", in steps of {}", places.step)
  );
}

std::string extents_of(const device::Shape& shape, std::size_t first) {
  std::string text;
  for (std::size_t axis = first; axis < shape.rank; ++axis) {
    text += (text.empty() ? "" : " x ") + std::to_string(shape[axis]);
  }
  return text;
}

}  // namespace

Result<SourceBlock> source_block(
    const MatrixSource& source,
    std::size_t index,
    std::int64_t rows,
    std::int64_t columns
) {
  const Places wanted_rows = {source.row_begin, source.row_count, source.row_step};
  const Places wanted_columns = {source.column_begin, source.column_count, source.column_step};
  SourceBlock block{.rows = {}, .columns = {}, .transposed = source.transposed};
  PLEIAD_TRY(rows_in, places_in("rows", index, wanted_rows, rows));
  PLEIAD_TRY(columns_in, places_in("columns", index, wanted_columns, columns));
  block.rows = rows_in;
  block.columns = columns_in;
  return block;
}

Result<device::TensorView> tensor_of(
    const device::TensorView& tensor,
    std::int64_t stacked,
    std::size_t rank,
    std::string_view what
) {
  const std::size_t leading = stacked < 0 ? 0 : 1;
  const device::Shape& shape = tensor.shape;
  if (shape.rank != rank + leading) {
    return invalid_input(
        "{}: rank {}, {} has {}",
        what,
        shape.rank,
        leading == 0 ? "a matrix" : "a stack of matrices",
        rank + leading
    );
  }
  const auto bytes = static_cast<std::size_t>(shape.elements()) * device::size_of(tensor.dtype);
  if (tensor.bytes.size() != bytes) {
    return invalid_input("{}: its bytes are not {}", what, extents_of(shape, 0));
  }
  if (leading == 0) return tensor;
  const std::int64_t extent = shape[0];
  if (stacked >= extent) {
    return invalid_input("{}: index {} of {} stacked matrices", what, stacked, extent);
  }
  device::TensorView one = tensor;
  const std::size_t one_bytes = bytes / static_cast<std::size_t>(extent);
  one.bytes = tensor.bytes.subspan(static_cast<std::size_t>(stacked) * one_bytes, one_bytes);
  one.shape = {.extents = {}, .rank = rank};
  for (std::size_t axis = 0; axis < rank; ++axis) {
    one.shape.extents[axis] = shape[axis + 1];
  }
  return one;
}

}  // namespace pleiad::kernels::detail
