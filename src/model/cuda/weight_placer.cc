#include "model/cuda/weight_placer.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "kernels/cuda/gate_logits.h"

namespace pleiad::model::cuda {
namespace {

using kernels::PackedMatrix;
using kernels::PanelLayout;
using kernels::WeightFormat;
using kernels::cuda::GroupedFormat;

constexpr std::size_t kAlignment = 256;
constexpr std::int64_t kScaleBlock = 128;  // rows and columns of FP8 weights that share a scale

std::size_t aligned(std::size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

// What an expert's matrix takes in the form of the grouped product.
struct GroupedBytes {
  std::size_t codes = 0;
  std::size_t scales = 0;  // 0: none
};

GroupedBytes grouped_bytes(const PackedMatrix& matrix) {
  const bool coded = matrix.format() == WeightFormat::Fp8Block;
  const auto codes = kernels::cuda::grouped_packed_bytes(
      coded ? GroupedFormat::Fp8Blocks : GroupedFormat::BFloat16,
      1,
      matrix.outputs(),
      matrix.inputs()
  );
  const std::int64_t blocks = matrix.outputs() / kScaleBlock * (matrix.inputs() / kScaleBlock);
  return {
      .codes = static_cast<std::size_t>(codes),
      .scales = coded ? static_cast<std::size_t>(blocks) * sizeof(float) : 0};
}

}  // namespace

std::byte* WeightPlacer::take(std::size_t bytes) {
  std::byte* at = memory_ == nullptr ? nullptr : memory_ + offset_;
  offset_ += aligned(bytes);
  return at;
}

const std::byte* WeightPlacer::copied(std::span<const std::byte> source) {
  std::byte* at = take(source.size());
  if (stream_ != nullptr) stream_->copy_to_device(at, source.data(), source.size());
  return at;
}

const std::byte* WeightPlacer::raw(std::span<const std::byte> source) {
  std::byte* at = take(source.size());
  if (stream_ != nullptr) uploads_.push_back({.bytes = source, .matrix = {.codes = at}});
  return at;
}

const float* WeightPlacer::floats(const std::vector<float>& values) {
  if (values.empty()) return nullptr;
  return reinterpret_cast<const float*>(copied(std::as_bytes(std::span(values))));
}

const float* WeightPlacer::floats(const std::vector<std::vector<float>>& values) {
  if (values.empty()) return nullptr;
  std::byte* begin = take(values.size() * values.front().size() * sizeof(float));
  std::byte* at = begin;
  for (const std::vector<float>& line : values) {
    const std::size_t bytes = line.size() * sizeof(float);
    if (stream_ != nullptr) stream_->copy_to_device(at, line.data(), bytes);
    at += bytes;
  }
  return reinterpret_cast<const float*>(begin);
}

bool WeightPlacer::takes_fp8(const PackedMatrix& source) const {
  const PanelLayout& layout = source.layout();
  const bool coded =
      source.format() == WeightFormat::Fp8Block && layout.compute == kernels::Compute::BFloat16;
  if (!coded) return false;
  const auto origin = origins_->find(&source);
  PLEIAD_CHECK(origin != origins_->end());
  const bool whole_blocks =
      std::ranges::all_of(origin->second.sources, [&](const kernels::MatrixSource& part) {
        return rows_are_stored(part, layout) && part.scale_rows == kScaleBlock &&
               part.scale_columns == kScaleBlock && part.row_begin % kScaleBlock == 0 &&
               stored_row_count(part) % kScaleBlock == 0;
      });
  return whole_blocks && source.outputs() % kScaleBlock == 0 && source.inputs() % kScaleBlock == 0;
}

DeviceMatrix WeightPlacer::matrix(const PackedMatrix& source) {
  if (source.outputs() == 0) return {};
  if (!takes_fp8(source)) return rows(source);
  const GroupedWeights packed = group(source, 1);
  place_expert(packed, source, 0, {.source = &source});
  DeviceMatrix placed = kernels::cuda::plan_device_matrix(source.outputs(), source.layout());
  placed.packed = static_cast<const std::byte*>(packed.packed);
  placed.block_scales = packed.scales;
  return placed;
}

DeviceMatrix WeightPlacer::rows(const PackedMatrix& source) {
  if (source.outputs() == 0) return {};
  return place_rows(source, source.layout());
}

DeviceMatrix WeightPlacer::gate(const PackedMatrix& source, kernels::Compute activations) {
  PanelLayout stored = source.layout();
  stored.compute = kernels::Compute::BFloat16;
  const auto origin = origins_->find(&source);
  const bool is_stored = origin != origins_->end() && source.format() == WeightFormat::Plain &&
                         std::ranges::all_of(origin->second.sources, [&](const auto& part) {
                           return rows_are_stored(part, stored);
                         });
  const bool keeps = is_stored && activations == kernels::Compute::BFloat16 &&
                     kernels::cuda::gate_takes_bfloat16(source.inputs());
  return place_rows(source, keeps ? stored : source.layout());
}

DeviceMatrix WeightPlacer::place_rows(const PackedMatrix& source, const PanelLayout& layout) {
  const std::int64_t outputs = source.outputs();
  const DeviceMatrix size = kernels::cuda::plan_device_matrix(outputs, layout);
  std::byte* at = take(kernels::cuda::device_matrix_bytes(size));
  const DeviceMatrix placed = kernels::cuda::plan_device_matrix(outputs, layout, at);
  if (stream_ != nullptr) {
    uploads_.push_back({.source = &source, .matrix = placed, .outputs = outputs});
  }
  return placed;
}

MatrixList WeightPlacer::list(const std::vector<PackedMatrix>& sources) {
  MatrixList out;
  for (const PackedMatrix& source : sources) {
    out.matrices.push_back(rows(source));
  }
  return out;
}

void WeightPlacer::table(MatrixList& list) {
  if (list.matrices.empty()) return;
  const auto* bytes = copied(std::as_bytes(std::span(list.matrices)));
  list.table = reinterpret_cast<const DeviceMatrix*>(bytes);
}

GroupedWeights WeightPlacer::grouped(const Experts& experts, GroupedLayout layout) {
  const auto routed = static_cast<std::int64_t>(experts.routed.size());
  const PackedMatrix& like = experts.routed.front();
  const GroupedWeights weights = group(like, routed + experts.shared_experts);
  for (std::int64_t i = 0; i < routed; ++i) {
    const PackedMatrix& source = experts.routed[static_cast<std::size_t>(i)];
    place_expert(weights, like, i, {.source = &source, .layout = layout});
  }
  for (std::int64_t i = 0; i < experts.shared_experts; ++i) {
    const WeightUpload upload{
        .source = &experts.shared, .layout = layout, .piece = i, .pieces = experts.shared_experts};
    place_expert(weights, like, routed + i, upload);
  }
  return weights;
}

GroupedWeights WeightPlacer::group(const PackedMatrix& like, std::int64_t count) {
  const GroupedBytes bytes = grouped_bytes(like);
  const auto experts = static_cast<std::size_t>(count);
  std::byte* packed = take(experts * bytes.codes);
  float* scales = nullptr;
  if (bytes.scales > 0) scales = reinterpret_cast<float*>(take(experts * bytes.scales));
  return {.packed = packed, .scales = scales};
}

void WeightPlacer::place_expert(
    const GroupedWeights& weights,
    const PackedMatrix& like,
    std::int64_t index,
    WeightUpload upload
) {
  if (stream_ == nullptr) return;
  const GroupedBytes bytes = grouped_bytes(like);
  const auto at = static_cast<std::size_t>(index);
  upload.outputs = like.outputs();
  upload.packed = static_cast<std::byte*>(const_cast<void*>(weights.packed)) + at * bytes.codes;
  if (bytes.scales > 0) {
    upload.block_scales = const_cast<float*>(weights.scales) + at * bytes.scales / sizeof(float);
  }
  uploads_.push_back(upload);
}

}  // namespace pleiad::model::cuda
