#pragma once

#include <cstdint>

#include "device/cuda/stream.h"
#include "device/dtype.h"
#include "device/tensor_view.h"

// Ops on each token's row alone, on device memory; kernels/row_ops.h says what they compute.
namespace pleiad::kernels::cuda {

// Rows in GPU memory, `stride` elements apart: activations, float under Compute::Float32 and BF16
// under BFloat16, or sums, always float.
struct DeviceRows {
  void* data = nullptr;
  std::int64_t stride = 0;
  device::DType dtype = device::DType::F32;  // F32 or BF16

  // The same rows from element `first` on.
  [[nodiscard]] DeviceRows from(std::int64_t first) const {
    const auto bytes = first * static_cast<std::int64_t>(device::size_of(dtype));
    return {.data = static_cast<std::byte*>(data) + bytes, .stride = stride, .dtype = dtype};
  }
};

struct EmbedTask {
  const void* table = nullptr;                     // [vocabulary, width]
  device::DType table_dtype = device::DType::F32;  // F32, BF16 or F16
  const std::int32_t* ids = nullptr;               // [rows]; REQUIRES: below vocabulary
  std::int64_t rows = 0;
  std::int64_t width = 0;
  float* y = nullptr;  // [rows, width], dense
};

// y[r] = table[ids[r]].
void embed_rows(device::cuda::Stream& stream, const EmbedTask& task);

struct RmsNormTask {
  DeviceRows x;          // [rows, heads * width]
  DeviceRows add;        // [rows, width] of y's type; or none (null)
  bool keeps_x = false;  // the sum of x and add goes into the norm alone
  const std::int32_t* row_index =
      nullptr;  // [rows]: row r reads row row_index[r] of x; null: row r
  std::int64_t rows = 0;
  std::int64_t heads = 1;         // of a row, one after the other, each normalised on its own
  std::int64_t width = 0;         // of a head
  const float* weight = nullptr;  // [width]
  float epsilon = 1e-6F;
  DeviceRows y;  // [rows, heads * width]; may be x
};

// y = x / sqrt(mean(x^2) + epsilon) * weight. With `add`, first x += add: the residual stream takes
// up a layer's output on its way to the norm behind it (with keeps_x, later). REQUIRES for `add`: x
// of F32, one head, no row_index. Types of x and y: F32 and any, or BF16 and BF16.
void rms_norm(device::cuda::Stream& stream, const RmsNormTask& task);

struct SwigluTask {
  DeviceRows gate_up;  // [rows, 2 * width]: gate in the first half, up in the second
  std::int64_t rows = 0;
  std::int64_t width = 0;
  float limit = 0.0F;  // 0: silu(gate) * up; else gpt-oss's clamped_swiglu
  DeviceRows y;        // [rows, width], activations
};

// Types of gate_up and y: F32 and any, or BF16 and BF16.
void swiglu(device::cuda::Stream& stream, const SwigluTask& task);

struct AddRowsTask {
  DeviceRows x;  // [rows, width]
  std::int64_t rows = 0;
  std::int64_t width = 0;
  float* sum = nullptr;  // [rows, width], dense
};

// sum += x.
void add_rows(device::cuda::Stream& stream, const AddRowsTask& task);

}  // namespace pleiad::kernels::cuda
