#pragma once

#include <cstdint>

#include "device/cuda/stream.h"
#include "kernels/cuda/device_matrix.h"
#include "kernels/cuda/row_ops.h"

// The products that are right for every shape and storage format; fast ones for the shapes of large
// checkpoints stand beside them (dense_gemm.h). kernels/gemm.h is their specification.
namespace pleiad::kernels::cuda {

struct MatrixProductTask {
  DeviceRows x;  // [rows, inputs], activations
  std::int64_t rows = 0;
  DeviceMatrix weight;
  const float* bias = nullptr;    // [outputs], in GPU memory; null: none
  DeviceRows y;                   // [rows, outputs]; BF16 rounds
  std::int64_t partial_sums = 1;  // as kernels::GemmTask
};

// y = bias + x W^T, every element one chain of fused multiply-adds in ascending order of inputs, as
// kernels::gemm makes it on every instruction set but AVX-512 BF16's: the same bits.
void matrix_product(device::cuda::Stream& stream, const MatrixProductTask& task);

// Products of several matrices over the same rows: matrix m reads columns from m * x_step on and
// writes columns from m * y_step on, as the heads of latent attention do.
struct BatchedProductTask {
  DeviceRows x;
  std::int64_t x_step = 0;
  std::int64_t rows = 0;
  const DeviceMatrix* weights = nullptr;  // [count], in GPU memory, of one shape and format
  DeviceMatrix like;                      // any of them
  std::int64_t count = 0;
  DeviceRows y;
  std::int64_t y_step = 0;
};
void batched_product(device::cuda::Stream& stream, const BatchedProductTask& task);

// Products of many experts' weights with the rows routed to them.
struct GroupedProductTask {
  DeviceRows x;                          // [rows, inputs]
  const std::int32_t* x_rows = nullptr;  // [lines]: line l reads row x_rows[l]; null: row l
  const std::int32_t* starts = nullptr;  // [experts + 1]: lines of expert e, on the device
  std::int64_t lines_max = 0;            // at least starts[experts]
  std::int64_t experts = 0;
  const DeviceMatrix* weights = nullptr;  // [experts], in GPU memory, of one shape and format
  DeviceMatrix like;                      // any of them
  const float* bias = nullptr;            // [experts, outputs] or null
  DeviceRows y;                           // [lines, outputs]
  std::int64_t partial_sums = 1;
};

// Line l of expert e gets bias[e] + x[x_rows[l]] W[e]^T; lines behind the last are left alone. Same
// bits as matrix_product.
void grouped_product(device::cuda::Stream& stream, const GroupedProductTask& task);

}  // namespace pleiad::kernels::cuda
