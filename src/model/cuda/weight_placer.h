#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "device/cuda/stream.h"
#include "kernels/packed_matrix.h"
#include "model/cuda/gpu_weights.h"
#include "model/cuda/weight_upload.h"

namespace pleiad::model::cuda {

// Gives weights their places in one block of GPU memory: first to count bytes (no memory), then to
// fill it. Both passes make the same calls in the same order. Small vectors and tables are copied
// at once, matrices are noted as uploads. Sources must stay until the stream was waited for.
class WeightPlacer {
 public:
  explicit WeightPlacer(std::byte* memory = nullptr, device::cuda::Stream* stream = nullptr)
      : memory_(memory), stream_(stream) {}

  [[nodiscard]] std::size_t bytes() const { return offset_; }
  // What has to be brought to its place.
  [[nodiscard]] const std::vector<WeightUpload>& uploads() const { return uploads_; }

  // Bytes as they are; large ones.
  const std::byte* raw(std::span<const std::byte> source);
  // A vector; null for an empty one.
  const float* floats(const std::vector<float>& values);
  // Vectors of one length, one after the other; null for none.
  const float* floats(const std::vector<std::vector<float>>& values);

  DeviceMatrix matrix(const kernels::PackedMatrix& source);
  MatrixList list(const std::vector<kernels::PackedMatrix>& sources);
  // Puts the list's matrices into GPU memory too. Its vector must not change any more.
  void table(MatrixList& list);
  // Matrices of experts, BF16 or FP8, packed for the grouped product.
  GroupedWeights grouped(const std::vector<kernels::PackedMatrix>& sources, GroupedLayout layout);

 private:
  std::byte* take(std::size_t bytes);
  const std::byte* copied(std::span<const std::byte> source);

  std::byte* memory_;
  device::cuda::Stream* stream_;
  std::size_t offset_ = 0;
  std::vector<WeightUpload> uploads_;
};

}  // namespace pleiad::model::cuda
