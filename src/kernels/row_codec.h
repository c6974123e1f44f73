#pragma once

#include <cstddef>
#include <cstdint>

#include "device/dtype.h"
#include "kernels/context.h"

// Activation rows as they travel between ranks: float, or BF16. Lossless for rows that are rounded
// to the type they travel in.
namespace pleiad::kernels {

struct PackRowsTask {
  const float* x = nullptr;              // rows of `width` floats, dense
  const std::int32_t* x_rows = nullptr;  // [rows]: row r is row x_rows[r] of x; null: row r
  std::int64_t rows = 0;
  std::int64_t width = 0;
  device::DType dtype = device::DType::F32;  // F32 or BF16
  std::byte* out = nullptr;                  // [rows, width] of dtype, dense; any alignment
};

// out[r] = x[x_rows[r]]. REQUIRES for BF16: values that BF16 represents.
void pack_rows(const Context& context, const PackRowsTask& task);

struct UnpackRowsTask {
  const std::byte* bytes = nullptr;  // rows of `width` values of dtype, dense; any alignment
  const std::int32_t* from_rows =
      nullptr;  // [rows]: y's row r is row from_rows[r] of bytes; null: r
  device::DType dtype = device::DType::F32;
  std::int64_t rows = 0;
  std::int64_t width = 0;
  float* y = nullptr;         // [rows, width]
  std::int64_t y_stride = 0;  // floats between rows; 0: dense
};

// y[r] = bytes[from_rows[r]].
void unpack_rows(const Context& context, const UnpackRowsTask& task);

}  // namespace pleiad::kernels
