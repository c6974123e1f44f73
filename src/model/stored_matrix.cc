#include "model/stored_matrix.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <initializer_list>
#include <utility>

namespace pleiad::model {
namespace {

using device::DType;
using kernels::MatrixSource;
using kernels::WeightFormat;

constexpr std::int64_t kGroup = 32;  // weights that share a scale in the 4-bit formats

std::int64_t divide_up(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

bool is_float(DType dtype) {
  return dtype == DType::F32 || dtype == DType::BF16 || dtype == DType::F16;
}

// A tensor that holds one matrix, or `stacked` of them of which `index` is wanted.
struct Finder {
  const weights::Checkpoint& checkpoint;
  std::int64_t index = -1;
  std::int64_t stacked = -1;

  // The wanted matrix of `name`, when the tensor has `extents` behind the stack.
  [[nodiscard]] Result<device::TensorView>
  find(const std::string& name, std::initializer_list<std::int64_t> extents) const {
    device::Shape one{.extents = {}, .rank = extents.size()};
    std::copy(extents.begin(), extents.end(), one.extents.begin());
    if (index < 0) return checkpoint.tensor(name, one);
    PLEIAD_TRY(any, checkpoint.tensor(name));
    device::Shape all{.extents = {}, .rank = one.rank + 1};
    const std::int64_t most = any.shape.rank > 0 ? any.shape[0] : 0;
    all.extents[0] = stacked >= 0 ? stacked : std::max(most, index + 1);
    std::copy(extents.begin(), extents.end(), all.extents.begin() + 1);
    PLEIAD_TRY(view, checkpoint.tensor(name, all));
    if (index >= all[0]) {
      return invalid_input("tensor {}: index {} of {} stacked matrices", name, index, all[0]);
    }
    const std::size_t bytes = view.bytes.size() / static_cast<std::size_t>(all[0]);
    view.bytes = view.bytes.subspan(static_cast<std::size_t>(index) * bytes, bytes);
    view.shape = one;
    return view;
  }
};

Error wrong_dtype(const std::string& name, DType dtype, std::string_view supported) {
  return unsupported("tensor {} is {}; supported: {}", name, device::to_string(dtype), supported);
}

Result<device::TensorView> of_dtype(
    Result<device::TensorView> view,
    const std::string& name,
    std::initializer_list<DType> dtypes
) {
  if (!view.ok()) return view;
  const bool known = std::find(dtypes.begin(), dtypes.end(), view->dtype) != dtypes.end();
  if (known) return view;
  std::string supported;
  for (const DType dtype : dtypes) {
    supported += (supported.empty() ? "" : ", ") + std::string(device::to_string(dtype));
  }
  return wrong_dtype(name, view->dtype, supported);
}

// NAME_shape, where there is one, must agree.
Result<void> check_shape(const weights::Checkpoint& checkpoint, const MatrixPart& part) {
  const std::string name = part.name + "_shape";
  if (part.index >= 0 || !checkpoint.contains(name)) return {};
  PLEIAD_TRY(
      view,
      of_dtype(checkpoint.tensor(name, {.extents = {2}, .rank = 1}), name, {DType::I64, DType::I32})
  );
  std::array<std::int64_t, 2> extents{};
  for (std::size_t i = 0; i < 2; ++i) {
    const std::size_t bytes = device::size_of(view.dtype);
    // Little-endian and never negative, so that the lower bytes are the number.
    std::memcpy(&extents.at(i), view.bytes.data() + i * bytes, bytes);
  }
  if (extents[0] == part.rows && extents[1] == part.columns) return {};
  return corrupt(
      "tensor {} says {} x {}, expected {} x {}",
      name,
      extents[0],
      extents[1],
      part.rows,
      part.columns
  );
}

Result<void> find_fp8(
    const Finder& finder,
    const QuantizationConfig& config,
    const MatrixPart& part,
    MatrixSource& out
) {
  const std::string name = part.name + "_scale_inv";
  const std::int64_t height = divide_up(part.rows, config.scale_rows);
  const std::int64_t width = divide_up(part.columns, config.scale_columns);
  PLEIAD_TRY(
      scales,
      of_dtype(
          finder.find(name, {height, width}),
          name,
          {DType::F32, DType::BF16, DType::F16, DType::F8E8M0}
      )
  );
  out.scales = scales;
  out.scale_rows = config.scale_rows;
  out.scale_columns = config.scale_columns;
  return {};
}

// NAME_offset, where there is one, must be zero: codes stand for symmetric integers.
Result<void> check_offsets(const Finder& finder, const MatrixPart& part) {
  const std::string name = part.name + "_offset";
  const auto any = finder.checkpoint.tensor(name);
  if (!any.ok()) return {};
  const bool line = any->shape.rank == (part.index < 0 ? 1 : 2);
  PLEIAD_TRY(
      offsets,
      of_dtype(
          line ? finder.find(name, {part.rows}) : finder.find(name, {part.rows, 1}),
          name,
          {DType::F32, DType::BF16, DType::F16, DType::I8, DType::I32}
      )
  );
  // Zero is all zero bits in each of these types, but for its sign.
  const std::size_t size = device::size_of(offsets.dtype);
  const bool has_sign_bit = is_float(offsets.dtype);
  for (std::size_t i = 0; i < offsets.bytes.size(); ++i) {
    const bool is_top = has_sign_bit && i % size == size - 1;
    const auto bits = std::to_integer<unsigned>(offsets.bytes[i]) & (is_top ? 0x7FU : 0xFFU);
    if (bits == 0) continue;
    return unsupported(
        "tensor {} is not zero at output {}: asymmetric integers are not computed", name, i / size
    );
  }
  return {};
}

Result<void> find_int8(const Finder& finder, const MatrixPart& part, MatrixSource& out) {
  const std::string name = part.name + "_scale";
  const auto any = finder.checkpoint.tensor(name);
  const std::size_t line_rank = part.index < 0 ? 1 : 2;
  const bool line = any.ok() && any->shape.rank == line_rank;
  PLEIAD_TRY(
      scales,
      of_dtype(
          line ? finder.find(name, {part.rows}) : finder.find(name, {part.rows, 1}),
          name,
          {DType::F32, DType::BF16, DType::F16}
      )
  );
  out.scales = scales;
  return check_offsets(finder, part);
}

Result<void> find_int4(const Finder& finder, const MatrixPart& part, MatrixSource& out) {
  const std::string codes = part.name + "_packed";
  const std::string name = part.name + "_scale";
  PLEIAD_TRY(check_shape(finder.checkpoint, part));
  PLEIAD_TRY(
      words,
      of_dtype(finder.find(codes, {part.rows, divide_up(part.columns, 8)}), codes, {DType::I32})
  );
  PLEIAD_TRY(
      scales,
      of_dtype(
          finder.find(name, {part.rows, divide_up(part.columns, kGroup)}),
          name,
          {DType::F32, DType::BF16, DType::F16}
      )
  );
  out.tensor = words;
  out.scales = scales;
  return {};
}

Result<void> find_mxfp4(const Finder& finder, const MatrixPart& part, MatrixSource& out) {
  const std::string codes = part.name + "_blocks";
  const std::string name = part.name + "_scales";
  const std::int64_t groups = divide_up(part.columns, kGroup);
  PLEIAD_TRY(
      blocks, of_dtype(finder.find(codes, {part.rows, groups, kGroup / 2}), codes, {DType::U8})
  );
  PLEIAD_TRY(
      scales, of_dtype(finder.find(name, {part.rows, groups}), name, {DType::U8, DType::F8E8M0})
  );
  out.tensor = blocks;
  out.scales = scales;
  return {};
}

// The same block of the transpose.
MatrixPart turned(const MatrixPart& part) {
  MatrixPart out = part;
  std::swap(out.rows, out.columns);
  std::swap(out.row_begin, out.column_begin);
  std::swap(out.row_count, out.column_count);
  std::swap(out.row_step, out.column_step);
  out.transposed = false;
  return out;
}

// The format that the names say, and for NAME itself its dtype.
Result<WeightFormat> format_of(const weights::Checkpoint& checkpoint, const std::string& name) {
  if (!checkpoint.contains(name)) {
    if (checkpoint.contains(name + "_packed")) return WeightFormat::Int4Group32;
    if (checkpoint.contains(name + "_blocks")) return WeightFormat::MxFp4;
  }
  PLEIAD_TRY(view, checkpoint.tensor(name));
  if (is_float(view.dtype)) return WeightFormat::Plain;
  if (view.dtype == DType::F8E4M3) return WeightFormat::Fp8Block;
  if (view.dtype == DType::I8) return WeightFormat::Int8Channel;
  return wrong_dtype(name, view.dtype, "F32, BF16, F16, F8_E4M3, I8");
}

}  // namespace

Result<MatrixSource> stored_matrix(
    const weights::Checkpoint& checkpoint,
    const QuantizationConfig& config,
    const MatrixPart& part
) {
  PLEIAD_TRY(format, format_of(checkpoint, part.name));
  const bool named = format == WeightFormat::Plain || config.format == WeightFormat::Plain ||
                     config.format == format;
  if (!named) {
    return unsupported(
        "tensor {} is stored as {}, but the quantization_config says {}",
        part.name,
        kernels::to_string(format),
        kernels::to_string(config.format)
    );
  }
  const bool is_coded = format != WeightFormat::Plain;
  if (config.coded && std::ranges::binary_search(*config.coded, part.name) != is_coded) {
    return corrupt(
        "tensor {} is stored as {}, but the checkpoint's description says otherwise",
        part.name,
        kernels::to_string(format)
    );
  }
  const bool turns = format == WeightFormat::MxFp4 && part.transposed;
  const MatrixPart block = turns ? turned(part) : part;
  MatrixSource source{
      .tensor = {},
      .row_begin = block.row_begin,
      .row_count = block.row_count,
      .row_step = block.row_step,
      .column_begin = block.column_begin,
      .column_count = block.column_count,
      .column_step = block.column_step,
      .transposed = block.transposed,
      .format = format,
      .scales = {},
  };
  const Finder finder{checkpoint, block.index, block.stacked};
  if (format == WeightFormat::Int4Group32) {
    PLEIAD_TRY(find_int4(finder, block, source));
    return source;
  }
  if (format == WeightFormat::MxFp4) {
    PLEIAD_TRY(find_mxfp4(finder, block, source));
    return source;
  }
  PLEIAD_TRY(view, finder.find(block.name, {block.rows, block.columns}));
  source.tensor = view;
  if (format == WeightFormat::Fp8Block) PLEIAD_TRY(find_fp8(finder, config, block, source));
  if (format == WeightFormat::Int8Channel) PLEIAD_TRY(find_int8(finder, block, source));
  return source;
}

}  // namespace pleiad::model
