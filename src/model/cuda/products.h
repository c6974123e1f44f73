#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
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

// Chooses between cuBLASLt's products and those that take any shape, once for each shape of a
// model, from the shape alone: never from a step's rows.
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
  Result<void>
  prepare_batch(const MatrixList& weights, const Steps& steps, const ProductRows& rows);

 private:
  struct Known {
    kernels::cuda::DenseShape shape;
    int plan = -1;  // -1: cuBLASLt does not take it
  };

  explicit Products(kernels::cuda::DenseGemm dense, std::int64_t rows_max)
      : dense_(std::move(dense)), rows_max_(rows_max) {}
  Result<void> prepare_shape(const kernels::cuda::DenseShape& shape, std::int64_t rows_max);
  [[nodiscard]] int plan_of(const kernels::cuda::DenseShape& shape) const;

  kernels::cuda::DenseGemm dense_;
  std::int64_t rows_max_;
  std::vector<Known> known_;
};

}  // namespace pleiad::model::cuda
