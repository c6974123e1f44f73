#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "device/cuda/device_buffer.h"
#include "device/cuda/stream.h"
#include "kernels/cuda/dense_gemm.h"
#include "kernels/cuda/matrix_product.h"
#include "model/cuda/gpu_weights.h"

namespace pleiad::model::cuda {

using kernels::cuda::DeviceRows;

// What a product makes room for.
struct ProductRows {
  std::int64_t x_stride = 0;
  std::int64_t y_stride = 0;
  device::DType y_dtype = device::DType::F32;
  std::int64_t rows_max = 0;  // of a call; 0: those of a step
};

// Chooses between cuBLASLt's products, FP8 ones and those that take any shape, once for each shape
// of a model, from the shape and format alone: never from a step's rows.
class Products {
 public:
  // `rows_max`: of a step. Fails when cuBLASLt does.
  static Result<Products> create(std::int64_t rows_max);

  // y = x W^T + bias.
  void run(
      device::cuda::Stream& stream,
      std::int64_t rows,
      const DeviceMatrix& weight,
      const float* bias,
      const DeviceRows& x,
      const DeviceRows& y
  );
  // Rows as E4M3 codes with a scale for each 128 values (kernels/cuda/quantize_rows.h), good until
  // the next call. REQUIRES: prepare_codes() of at least so many.
  struct Codes {
    const std::byte* codes = nullptr;
    const float* scales = nullptr;
    std::int64_t scale_stride = 0;
  };
  Codes quantize(
      device::cuda::Stream& stream,
      const DeviceRows& x,
      std::int64_t rows,
      std::int64_t width
  );
  // As kernels::cuda::batched_product, matrix m of `weights` on columns m * x_step and m * y_step.
  struct Steps {
    std::int64_t x = 0;
    std::int64_t y = 0;
  };
  void run_batch(
      device::cuda::Stream& stream,
      std::int64_t rows,
      const MatrixList& weights,
      const Steps& steps,
      const DeviceRows& x,
      const DeviceRows& y
  );

  // Makes plans ready, so that run() of these finds them. Called before the first step.
  Result<void> prepare(const DeviceMatrix& weight, const float* bias, const ProductRows& rows);
  Result<void> prepare_codes(std::int64_t rows, std::int64_t width);
  Result<void>
  prepare_batch(const MatrixList& weights, const Steps& steps, const ProductRows& rows);

 private:
  struct Known {
    kernels::cuda::DenseShape shape;
    int plan = -1;  // -1: cuBLASLt does not take it
  };

  explicit Products(kernels::cuda::DenseGemm dense, std::int64_t rows_max)
      : dense_(std::move(dense)), rows_max_(rows_max) {}
  Result<void> prepare_fp8(const DeviceMatrix& weight, const ProductRows& rows);
  void run_fp8(
      device::cuda::Stream& stream,
      std::int64_t rows,
      const DeviceMatrix& weight,
      const DeviceRows& x,
      const DeviceRows& y
  );
  Result<void> prepare_shape(const kernels::cuda::DenseShape& shape, std::int64_t rows_max);
  [[nodiscard]] int plan_of(const kernels::cuda::DenseShape& shape) const;

  kernels::cuda::DenseGemm dense_;
  std::int64_t rows_max_;
  std::vector<Known> known_;
  device::cuda::DeviceBuffer codes_;   // of quantize()
  device::cuda::DeviceBuffer scales_;  // likewise
  device::cuda::DeviceBuffer starts_;  // [rows, 2]: at 2 (r - 1) one expert's bounds, 0 and r
};

}  // namespace pleiad::model::cuda
