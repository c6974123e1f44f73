#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "device/cuda/device_buffer.h"
#include "device/cuda/stream.h"
#include "kernels/packed_matrix.h"
#include "model/cuda/gpu_weights.h"

namespace pleiad::model::cuda {

// Gives weights their places in one block of GPU memory: first to count bytes (no memory), then to
// fill it. Both passes make the same calls in the same order. Sources must stay until the stream
// was waited for.
class WeightPlacer {
 public:
  explicit WeightPlacer(std::byte* memory = nullptr, device::cuda::Stream* stream = nullptr)
      : memory_(memory), stream_(stream) {}

  [[nodiscard]] std::size_t bytes() const { return offset_; }
  // The first failure to get memory for loading itself.
  Result<void> result() { return std::move(failure_); }

  // Bytes as they are.
  const std::byte* raw(std::span<const std::byte> source);
  // A vector; null for an empty one.
  const float* floats(const std::vector<float>& values);
  // Vectors of one length, one after the other; null for none.
  const float* floats(const std::vector<std::vector<float>>& values);
  // `count` times `value`.
  const float* repeated(std::int64_t count, float value);

  DeviceMatrix matrix(const kernels::PackedMatrix& source);
  MatrixList list(const std::vector<kernels::PackedMatrix>& sources);
  // Puts the list's matrices into GPU memory too. Its vector must not change any more.
  void table(MatrixList& list);
  // BF16 matrices of experts, packed for the grouped product.
  GroupedWeights grouped(const std::vector<kernels::PackedMatrix>& sources, GroupedLayout layout);

  // The same with noise in place of a checkpoint's numbers, whose sums over all inputs have about
  // the inputs' own spread.
  struct Noise {
    std::int64_t outputs = 0;
    std::int64_t inputs = 0;
    kernels::Compute compute = kernels::Compute::BFloat16;
  };
  DeviceMatrix matrix(const Noise& noise);
  MatrixList list(std::int64_t count, const Noise& noise);
  GroupedWeights grouped(std::int64_t count, const Noise& noise, GroupedLayout layout);
  // Rows of BF16 noise.
  const std::byte* rows(const Noise& noise);

 private:
  // Fills a matrix that was given its place.
  using Fill = std::function<void(std::int64_t index, const DeviceMatrix& placed)>;

  std::byte* take(std::size_t bytes);
  DeviceMatrix place(std::int64_t outputs, const kernels::PanelLayout& layout);
  void copy(const kernels::PackedMatrix& source, const DeviceMatrix& placed);
  void fill(const Noise& noise, const DeviceMatrix& placed);
  GroupedWeights pack(
      std::int64_t count,
      std::int64_t outputs,
      std::int64_t inputs,
      GroupedLayout layout,
      const Fill& fill
  );
  // Whether `memory` has so many bytes; takes them if need be.
  bool ensure(device::cuda::DeviceBuffer& memory, std::size_t bytes);

  std::byte* memory_;
  device::cuda::Stream* stream_;
  std::size_t offset_ = 0;
  std::uint64_t seed_ = 0;
  device::cuda::DeviceBuffer staging_;   // panels on their way
  device::cuda::DeviceBuffer unpacked_;  // one expert's rows on their way
  Result<void> failure_;
};

// Counts, takes the memory, places. `place_all` is called twice. Waits until all is there.
Result<std::unique_ptr<GpuWeights>> place_weights(
    device::cuda::Stream& stream,
    const std::function<void(WeightPlacer& placer, GpuWeights& out)>& place_all
);

}  // namespace pleiad::model::cuda
