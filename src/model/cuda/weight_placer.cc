#include "model/cuda/weight_placer.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/check.h"

namespace pleiad::model::cuda {
namespace {

using device::cuda::DeviceBuffer;
using kernels::PackedMatrix;
using kernels::PanelLayout;

constexpr std::size_t kAlignment = 256;
constexpr std::size_t kStagingBytes = std::size_t{64} << 20U;

std::size_t aligned(std::size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

PanelLayout plain(const WeightPlacer::Noise& noise) {
  return {.compute = noise.compute, .inputs = noise.inputs};
}

}  // namespace

std::byte* WeightPlacer::take(std::size_t bytes) {
  std::byte* at = memory_ == nullptr ? nullptr : memory_ + offset_;
  offset_ += aligned(bytes);
  return at;
}

bool WeightPlacer::ensure(DeviceBuffer& memory, std::size_t bytes) {
  if (!failure_.ok()) return false;
  if (memory.size() >= bytes) return true;
  // Work under way still uses what is given up.
  failure_ = stream_->wait("copying weights to the GPU");
  if (!failure_.ok()) return false;
  auto taken = DeviceBuffer::allocate(bytes, "work space for loading");
  if (taken.ok()) {
    memory = *std::move(taken);
  } else {
    failure_ = std::move(taken).error();
  }
  return failure_.ok();
}

const std::byte* WeightPlacer::raw(std::span<const std::byte> source) {
  std::byte* at = take(source.size());
  if (stream_ != nullptr) stream_->copy_to_device(at, source.data(), source.size());
  return at;
}

const float* WeightPlacer::floats(const std::vector<float>& values) {
  if (values.empty()) return nullptr;
  return reinterpret_cast<const float*>(raw(std::as_bytes(std::span(values))));
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

const float* WeightPlacer::repeated(std::int64_t count, float value) {
  const std::vector<float> values(static_cast<std::size_t>(count), value);
  const float* at = floats(values);
  // The vector goes away here.
  if (stream_ != nullptr && failure_.ok()) failure_ = stream_->wait("copying weights to the GPU");
  return at;
}

DeviceMatrix WeightPlacer::place(std::int64_t outputs, const PanelLayout& layout) {
  const DeviceMatrix size = kernels::cuda::plan_device_matrix(outputs, layout);
  std::byte* at = take(kernels::cuda::device_matrix_bytes(size));
  return kernels::cuda::plan_device_matrix(outputs, layout, at);
}

DeviceMatrix WeightPlacer::matrix(const PackedMatrix& source) {
  if (source.outputs() == 0) return {};
  const DeviceMatrix placed = place(source.outputs(), source.layout());
  if (stream_ != nullptr) copy(source, placed);
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
  const auto* bytes = raw(std::as_bytes(std::span(list.matrices)));
  list.table = reinterpret_cast<const DeviceMatrix*>(bytes);
}

// In portions that fit the staging memory, panel by panel.
void WeightPlacer::copy(const PackedMatrix& source, const DeviceMatrix& placed) {
  if (!ensure(staging_, std::max(kStagingBytes, source.panel_bytes()))) return;
  const auto portion = static_cast<std::int64_t>(staging_.size() / source.panel_bytes());
  for (std::int64_t first = 0; first < source.panels(); first += portion) {
    const std::int64_t count = std::min(portion, source.panels() - first);
    const auto bytes = static_cast<std::size_t>(count) * source.panel_bytes();
    stream_->copy_to_device(staging_.data(), source.panel(first), bytes);
    kernels::cuda::place_panels(
        *stream_,
        {.panels = staging_.data(),
         .layout = source.layout(),
         .first_panel = first,
         .panel_count = count,
         .matrix = placed}
    );
  }
}

void WeightPlacer::fill(const Noise& noise, const DeviceMatrix& placed) {
  const float deviation = 1.0F / std::sqrt(static_cast<float>(noise.inputs));
  kernels::cuda::fill_random(*stream_, placed, deviation, ++seed_);
}

DeviceMatrix WeightPlacer::matrix(const Noise& noise) {
  const DeviceMatrix placed = place(noise.outputs, plain(noise));
  if (stream_ != nullptr) fill(noise, placed);
  return placed;
}

MatrixList WeightPlacer::list(std::int64_t count, const Noise& noise) {
  MatrixList out;
  for (std::int64_t i = 0; i < count; ++i) {
    out.matrices.push_back(matrix(noise));
  }
  return out;
}

const std::byte* WeightPlacer::rows(const Noise& noise) {
  return matrix(noise).codes;
}

// One expert after the other through the memory for its rows.
GroupedWeights WeightPlacer::pack(
    std::int64_t count,
    std::int64_t outputs,
    std::int64_t inputs,
    GroupedLayout layout,
    const Fill& fill
) {
  const auto bytes = static_cast<std::size_t>(kernels::cuda::grouped_packed_bytes(
      kernels::cuda::GroupedFormat::BFloat16, 1, outputs, inputs
  ));
  std::byte* begin = take(static_cast<std::size_t>(count) * bytes);
  if (stream_ == nullptr || !ensure(unpacked_, bytes)) return {.packed = begin};
  const DeviceMatrix rows = kernels::cuda::plan_device_matrix(
      outputs, {.compute = kernels::Compute::BFloat16, .inputs = inputs}, unpacked_.data()
  );
  for (std::int64_t i = 0; i < count; ++i) {
    fill(i, rows);
    if (!failure_.ok()) break;
    kernels::cuda::pack_grouped_weights(
        *stream_,
        {.stored = rows.codes,
         .packed = begin + static_cast<std::size_t>(i) * bytes,
         .experts = 1,
         .outputs = static_cast<std::int32_t>(outputs),
         .inputs = static_cast<std::int32_t>(inputs),
         .layout = layout}
    );
  }
  return {.packed = begin};
}

GroupedWeights
WeightPlacer::grouped(const std::vector<PackedMatrix>& sources, GroupedLayout layout) {
  const PackedMatrix& first = sources.front();
  return pack(
      static_cast<std::int64_t>(sources.size()),
      first.outputs(),
      first.inputs(),
      layout,
      [&](std::int64_t index, const DeviceMatrix& rows) {
        copy(sources[static_cast<std::size_t>(index)], rows);
      }
  );
}

GroupedWeights WeightPlacer::grouped(std::int64_t count, const Noise& noise, GroupedLayout layout) {
  return pack(
      count,
      noise.outputs,
      noise.inputs,
      layout,
      [&](std::int64_t, const DeviceMatrix& rows) { fill(noise, rows); }
  );
}

}  // namespace pleiad::model::cuda
