#pragma once

#include <cstdint>

#include "kernels/cuda/row_ops.h"

namespace pleiad::kernels::cuda {

// Values that share a scale, as in DeepSeek-V3's recipe.
inline constexpr std::int64_t kQuantizedGroup = 128;

struct QuantizeRowsTask {
  DeviceRows x;  // [rows, width]
  std::int64_t rows = 0;
  std::int64_t width = 0;         // a multiple of kQuantizedGroup
  std::byte* codes = nullptr;     // [rows, width], E4M3, dense
  float* scales = nullptr;        // [width / kQuantizedGroup, scale_stride]
  std::int64_t scale_stride = 0;  // at least rows
};

// Rows as E4M3 codes with a scale for each 128 values of a row: scale = largest magnitude / 448 (1
// where all are zero), code = the E4M3 nearest to x / scale. A row's codes and scales depend on
// that row alone. Enqueues.
void quantize_rows(device::cuda::Stream& stream, const QuantizeRowsTask& task);

}  // namespace pleiad::kernels::cuda
