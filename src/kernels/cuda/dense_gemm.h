#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "base/result.h"
#include "device/cuda/stream.h"
#include "kernels/cuda/device_matrix.h"
#include "kernels/cuda/row_ops.h"

// Products of BF16 matrices by cuBLASLt, for shapes of large checkpoints.
namespace pleiad::kernels::cuda {

// The shape of a product and how its results are kept. Matrices of one shape share plans.
struct DenseShape {
  std::int64_t outputs = 0;
  std::int64_t inputs = 0;
  std::int64_t x_stride = 0;  // elements between rows
  std::int64_t y_stride = 0;
  device::DType y_dtype = device::DType::BF16;  // or F32
  // Of a batch of products over the same rows, as BatchedProductTask's; 1: there is one.
  std::int64_t count = 1;
  std::int64_t weight_step = 0;  // elements between matrices
  std::int64_t x_step = 0;
  std::int64_t y_step = 0;

  friend bool operator==(const DenseShape&, const DenseShape&) = default;
};

// Whether cuBLASLt's fast kernels take the shape: extents, strides and steps of 16 bytes.
bool dense_gemm_supports(const DenseShape& shape);

// The row counts that plans are made for: a step of r rows runs with the first that is at least r.
std::span<const std::int64_t> dense_row_buckets();

// The bucket of `rows`. REQUIRES: at most the last one.
std::int64_t dense_row_bucket(std::int64_t rows);

// Plans for shapes, and the workspace they share. One per rank; used by one thread at a time.
class DenseGemm {
 public:
  static Result<DenseGemm> create();
  DenseGemm(DenseGemm&&) noexcept;
  DenseGemm& operator=(DenseGemm&&) noexcept;
  ~DenseGemm();

  // Chooses a kernel for every bucket up to that of rows_max: of cuBLASLt's that divide the inputs
  // into the same number of parts, one if there are such, and few_rows_gemm(), those that give
  // noise the same bits in every bucket, so that a row's bits do not depend on it (DESIGN R1).
  // cuBLASLt's own order of preference decides, for few rows a measurement. Takes memory for the
  // trial and waits. Returns the shape's index. Fails with Unsupported when there is no such
  // choice.
  Result<int> prepare(const DenseShape& shape, std::int64_t rows_max);

  // y = x W^T for `rows` rows and as many more as fill their bucket: x and y have room for those.
  // Enqueues. REQUIRES: a BF16 matrix and x of BF16, of the prepared shape.
  void run(
      device::cuda::Stream& stream,
      int shape,
      std::int64_t rows,
      const DeviceMatrix& weight,
      const DeviceRows& x,
      const DeviceRows& y
  );

  // Parts that the inputs of a prepared shape are divided into.
  [[nodiscard]] int parts(int shape) const;

 private:
  struct State;
  struct Prepared;
  class Trial;
  Result<bool> choose_algorithms(Prepared& prepared, int parts);
  explicit DenseGemm(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace pleiad::kernels::cuda
