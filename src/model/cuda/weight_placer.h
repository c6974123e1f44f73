#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_map>
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
  using Origins = std::unordered_map<const kernels::PackedMatrix*, MatrixOrigin>;

  explicit WeightPlacer(
      const Origins& origins,
      std::byte* memory = nullptr,
      device::cuda::Stream* stream = nullptr
  )
      : origins_(&origins), memory_(memory), stream_(stream) {}

  [[nodiscard]] std::size_t bytes() const { return offset_; }
  // What has to be brought to its place.
  [[nodiscard]] const std::vector<WeightUpload>& uploads() const { return uploads_; }

  // Bytes as they are; large ones.
  const std::byte* raw(std::span<const std::byte> source);
  // A vector; null for an empty one.
  const float* floats(const std::vector<float>& values);
  // Vectors of one length, one after the other; null for none.
  const float* floats(const std::vector<std::vector<float>>& values);

  // FP8 blocks that the tensor cores take (takes_fp8()) are packed for them.
  DeviceMatrix matrix(const kernels::PackedMatrix& source);
  // Row by row, whatever the format: for products of many matrices, or with a bias.
  DeviceMatrix rows(const kernels::PackedMatrix& source);
  // A gate of floats; left in BF16 where it is stored so and meets rows of `activations` that are
  // BF16, too: nothing is lost.
  DeviceMatrix gate(const kernels::PackedMatrix& source, kernels::Compute activations);
  MatrixList list(const std::vector<kernels::PackedMatrix>& sources);
  // Puts the list's matrices into GPU memory too. Its vector must not change any more.
  void table(MatrixList& list);
  // Matrices of experts, BF16 or FP8, packed for the grouped product; behind them a shared MLP's,
  // cut into `shared_experts` more (of FP8, at most one).
  struct Experts {
    const std::vector<kernels::PackedMatrix>& routed;
    const kernels::PackedMatrix& shared;
    std::int64_t shared_experts = 0;
  };
  GroupedWeights grouped(const Experts& experts, GroupedLayout layout);

  // Whether a matrix is of FP8 blocks of 128 x 128 that products with quantised activations take:
  // under Compute::BFloat16, in whole blocks, stored as outputs by inputs.
  [[nodiscard]] bool takes_fp8(const kernels::PackedMatrix& source) const;

 private:
  std::byte* take(std::size_t bytes);
  // Room for the source's rows as `layout` wants them, and their upload.
  DeviceMatrix place_rows(const kernels::PackedMatrix& source, const kernels::PanelLayout& layout);
  // Room for `count` experts' matrices.
  GroupedWeights group(const kernels::PackedMatrix& like, std::int64_t count);
  // Notes the upload of expert `index`.
  void place_expert(
      const GroupedWeights& weights,
      const kernels::PackedMatrix& like,
      std::int64_t index,
      WeightUpload upload
  );
  const std::byte* copied(std::span<const std::byte> source);

  const Origins* origins_;
  std::byte* memory_;
  device::cuda::Stream* stream_;
  std::size_t offset_ = 0;
  std::vector<WeightUpload> uploads_;
};

}  // namespace pleiad::model::cuda
