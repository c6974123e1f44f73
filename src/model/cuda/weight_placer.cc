#include "model/cuda/weight_placer.h"

#include <utility>

#include "base/check.h"

namespace pleiad::model::cuda {
namespace {

using kernels::PackedMatrix;
using kernels::WeightFormat;
using kernels::cuda::GroupedFormat;

constexpr std::size_t kAlignment = 256;
constexpr std::int64_t kScaleBlock = 128;  // rows and columns of FP8 weights that share a scale

std::size_t aligned(std::size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
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

DeviceMatrix WeightPlacer::matrix(const PackedMatrix& source) {
  if (source.outputs() == 0) return {};
  const std::int64_t outputs = source.outputs();
  const DeviceMatrix size = kernels::cuda::plan_device_matrix(outputs, source.layout());
  std::byte* at = take(kernels::cuda::device_matrix_bytes(size));
  const DeviceMatrix placed = kernels::cuda::plan_device_matrix(outputs, source.layout(), at);
  if (stream_ != nullptr) {
    uploads_.push_back({.source = &source, .matrix = placed, .outputs = outputs});
  }
  return placed;
}

MatrixList WeightPlacer::list(const std::vector<PackedMatrix>& sources) {
  MatrixList out;
  for (const PackedMatrix& source : sources) {
    out.matrices.push_back(matrix(source));
  }
  return out;
}

void WeightPlacer::table(MatrixList& list) {
  if (list.matrices.empty()) return;
  const auto* bytes = copied(std::as_bytes(std::span(list.matrices)));
  list.table = reinterpret_cast<const DeviceMatrix*>(bytes);
}

GroupedWeights
WeightPlacer::grouped(const std::vector<PackedMatrix>& sources, GroupedLayout layout) {
  const PackedMatrix& first = sources.front();
  const bool coded = first.format() == WeightFormat::Fp8Block;
  const auto bytes = static_cast<std::size_t>(kernels::cuda::grouped_packed_bytes(
      coded ? GroupedFormat::Fp8Blocks : GroupedFormat::BFloat16, 1, first.outputs(), first.inputs()
  ));
  std::byte* packed = take(sources.size() * bytes);
  const auto scales =
      static_cast<std::size_t>(first.outputs() / kScaleBlock * (first.inputs() / kScaleBlock));
  float* block_scales =
      coded ? reinterpret_cast<float*>(take(sources.size() * scales * sizeof(float))) : nullptr;
  for (std::size_t i = 0; stream_ != nullptr && i < sources.size(); ++i) {
    uploads_.push_back(
        {.source = &sources[i],
         .outputs = sources[i].outputs(),
         .packed = packed + i * bytes,
         .block_scales = coded ? block_scales + i * scales : nullptr,
         .layout = layout}
    );
  }
  return {.packed = packed, .scales = block_scales};
}

}  // namespace pleiad::model::cuda
