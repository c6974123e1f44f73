#include "model/cuda/weight_upload.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace pleiad::model::cuda {
namespace {

using kernels::MatrixSource;
using kernels::PackedMatrix;
using kernels::PanelLayout;
using kernels::WeightFormat;

constexpr std::int64_t kPanel = PackedMatrix::kPanel;

// How many lines a range takes; a count of -1 takes all there are.
std::int64_t count_of(std::int64_t count, std::int64_t begin, std::int64_t step, std::int64_t all) {
  return count >= 0 ? count : (all - begin + step - 1) / step;
}

std::int64_t outputs_of(const MatrixSource& source) {
  if (source.transposed) {
    return count_of(
        source.column_count, source.column_begin, source.column_step, source.tensor.shape[1]
    );
  }
  return count_of(source.row_count, source.row_begin, source.row_step, source.tensor.shape[0]);
}

}  // namespace

std::vector<WeightUpload> cut_uploads(std::vector<WeightUpload> uploads, std::size_t part_bytes) {
  std::vector<WeightUpload> out;
  for (const WeightUpload& upload : uploads) {
    if (upload.source == nullptr) {
      for (std::size_t at = 0; at < upload.bytes.size(); at += part_bytes) {
        WeightUpload part = upload;
        part.bytes = upload.bytes.subspan(at, std::min(part_bytes, upload.bytes.size() - at));
        part.matrix.codes += at;
        out.push_back(part);
      }
      continue;
    }
    const std::size_t panel_bytes = upload.source->panel_bytes();
    const auto panels =
        static_cast<std::int64_t>(std::max<std::size_t>(1, part_bytes / panel_bytes));
    const std::int64_t step = upload.packed != nullptr ? upload.outputs : panels * kPanel;
    for (std::int64_t first = 0; first < upload.outputs; first += step) {
      WeightUpload part = upload;
      part.first_output = upload.first_output + first;
      part.outputs = std::min(step, upload.outputs - first);
      out.push_back(part);
    }
  }
  return out;
}

std::vector<MatrixSource>
cut_sources(std::span<const MatrixSource> sources, std::int64_t first, std::int64_t count) {
  std::vector<MatrixSource> out;
  for (const MatrixSource& source : sources) {
    const std::int64_t outputs = outputs_of(source);
    const std::int64_t skipped = std::min(first, outputs);
    const std::int64_t taken = std::min(count, outputs - skipped);
    first -= skipped;
    if (taken == 0) continue;
    count -= taken;
    MatrixSource part = source;
    if (source.transposed) {
      part.column_begin += skipped * source.column_step;
      part.column_count = taken;
    } else {
      part.row_begin += skipped * source.row_step;
      part.row_count = taken;
    }
    out.push_back(part);
  }
  PLEIAD_CHECK(count == 0, "outputs that the sources have");
  return out;
}

std::int64_t stored_row_count(const MatrixSource& source) {
  return source.row_count >= 0 ? source.row_count : source.tensor.shape[0] - source.row_begin;
}

PanelLayout layout_of(const WeightUpload& upload) {
  PanelLayout layout = upload.source->layout();
  if (upload.layout == kernels::cuda::GroupedLayout::Plain) layout.inputs /= upload.pieces;
  if (upload.matrix.outputs > 0) layout.compute = upload.matrix.compute;
  return layout;
}

std::vector<MatrixSource>
sources_of_piece(std::span<const MatrixSource> sources, const WeightUpload& upload) {
  if (upload.layout == kernels::cuda::GroupedLayout::Gated) {
    const std::int64_t half = upload.source->outputs() / 2;
    const std::int64_t share = half / upload.pieces;
    std::vector<MatrixSource> out = cut_sources(sources, upload.piece * share, share);
    const auto up = cut_sources(sources, half + upload.piece * share, share);
    out.insert(out.end(), up.begin(), up.end());
    return out;
  }
  const std::int64_t share = upload.source->inputs() / upload.pieces;
  std::vector<MatrixSource> out(sources.begin(), sources.end());
  for (MatrixSource& source : out) {
    PLEIAD_CHECK(!source.transposed, "an MLP's matrix, which is stored by outputs");
    source.column_begin += upload.piece * share * source.column_step;
    source.column_count = share;
  }
  return out;
}

bool rows_are_stored(const MatrixSource& source, const PanelLayout& layout) {
  const bool whole_rows = !source.transposed && source.row_step == 1 && source.column_step == 1 &&
                          source.column_begin == 0 && source.index < 0 &&
                          source.tensor.shape.rank == 2 && layout.inputs == source.tensor.shape[1];
  if (!whole_rows) return false;
  const device::DType stored = source.tensor.dtype;
  switch (source.format) {
    case WeightFormat::Plain:
      return layout.compute == kernels::Compute::Float32 ? stored == device::DType::F32
                                                         : stored == device::DType::BF16;
    case WeightFormat::Fp8Block:
      return source.scales.dtype == layout.scale_type &&
             source.scale_columns == layout.scale_inputs;
    case WeightFormat::Int8Channel:
    case WeightFormat::Int4Group32:
    case WeightFormat::MxFp4:
      break;
  }
  return false;
}

}  // namespace pleiad::model::cuda
