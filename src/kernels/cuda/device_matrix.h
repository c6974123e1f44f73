#pragma once

#include <cstddef>
#include <cstdint>

#include "device/cuda/stream.h"
#include "device/dtype.h"
#include "kernels/packed_matrix.h"

namespace pleiad::kernels::cuda {

// A weight matrix W [outputs, inputs] in GPU memory, row by row. Borrows its memory.
//   Plain        float or BF16, as `compute` says
//   Fp8Block     E4M3 codes
//   Int8Channel  integers as two's complement
//   Int4Group32  two's complement, two to a byte, the first in the lower half
//   MxFp4        E2M1, likewise
// Rows are row_bytes apart, a multiple of 16; what a row does not fill is undefined.
struct DeviceMatrix {
  const std::byte* codes = nullptr;
  const std::byte* scales = nullptr;  // [outputs, groups] of scale_type; null: Plain
  std::int64_t outputs = 0;
  std::int64_t inputs = 0;
  std::int64_t row_bytes = 0;
  std::int64_t groups = 0;        // of inputs that share a scale
  std::int64_t scale_inputs = 0;  // inputs of a group
  WeightFormat format = WeightFormat::Plain;
  Compute compute = Compute::Float32;
  device::DType scale_type = device::DType::F32;  // F32, BF16 or F8E8M0
  // Fp8Block, of a matrix that the tensor cores take: in the form of grouped_gemm.h, as one expert,
  // instead of the codes and scales above.
  const std::byte* packed = nullptr;
  const float* block_scales = nullptr;
};

// Bytes that a matrix takes, codes and then scales; a multiple of 256.
std::size_t device_matrix_bytes(const DeviceMatrix& matrix);

// A matrix of this shape that begins at `memory`, 256-byte aligned, device_matrix_bytes() long;
// null when only its size is wanted.
DeviceMatrix
plan_device_matrix(std::int64_t outputs, const PanelLayout& layout, std::byte* memory = nullptr);

// Lays `panel_count` panels, copied to `panels` in GPU memory from a PackedMatrix's panel
// `first_panel` on, into the rows they stand for. Enqueues.
struct PlacePanelsTask {
  const std::byte* panels = nullptr;
  PanelLayout layout;
  std::int64_t first_panel = 0;
  std::int64_t panel_count = 0;
  DeviceMatrix matrix;
};
void place_panels(device::cuda::Stream& stream, const PlacePanelsTask& task);

// Fills a Plain matrix with normal-looking noise of standard deviation `deviation`, the same for
// the same seed: for trials of speed without a checkpoint. Enqueues.
void fill_random(
    device::cuda::Stream& stream,
    const DeviceMatrix& matrix,
    float deviation,
    std::uint64_t seed
);

}  // namespace pleiad::kernels::cuda
