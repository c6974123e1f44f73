#include "model/cuda/products.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace pleiad::model::cuda {
namespace {

using kernels::cuda::DenseShape;

// Whether a matrix is stored as cuBLASLt reads it.
bool is_dense(const DeviceMatrix& weight) {
  return weight.format == kernels::WeightFormat::Plain &&
         weight.compute == kernels::Compute::BFloat16 && weight.row_bytes == weight.inputs * 2;
}

DenseShape shape_of(const DeviceMatrix& weight, const ProductRows& rows) {
  return {
      .outputs = weight.outputs,
      .inputs = weight.inputs,
      .x_stride = rows.x_stride,
      .y_stride = rows.y_stride,
      .y_dtype = rows.y_dtype,
  };
}

DenseShape
batch_shape(const MatrixList& weights, const Products::Steps& steps, const ProductRows& rows) {
  DenseShape shape = shape_of(weights.matrices.front(), rows);
  shape.count = weights.size();
  if (shape.count > 1) {
    shape.weight_step = (weights.matrices[1].codes - weights.matrices[0].codes) / 2;
  }
  shape.x_step = steps.x;
  shape.y_step = steps.y;
  return shape;
}

ProductRows strides_of(const DeviceRows& x, const DeviceRows& y) {
  return {.x_stride = x.stride, .y_stride = y.stride, .y_dtype = y.dtype};
}

}  // namespace

Result<Products> Products::create(std::int64_t rows_max) {
  PLEIAD_TRY(dense, kernels::cuda::DenseGemm::create());
  return Products(std::move(dense), rows_max);
}

Result<void> Products::prepare_shape(const DenseShape& shape, std::int64_t rows_max) {
  if (std::ranges::find(known_, shape, &Known::shape) != known_.end()) return {};
  int plan = -1;
  if (kernels::cuda::dense_gemm_supports(shape)) {
    auto prepared = dense_.prepare(shape, rows_max > 0 ? rows_max : rows_max_);
    // A shape it has no kernels for is not an error: the other product takes any.
    if (!prepared.ok() && prepared.error().kind != ErrorKind::Unsupported) {
      return std::move(prepared).error();
    }
    if (prepared.ok()) plan = *prepared;
  }
  known_.push_back({.shape = shape, .plan = plan});
  return {};
}

Result<void>
Products::prepare(const DeviceMatrix& weight, const float* bias, const ProductRows& rows) {
  if (weight.outputs == 0 || bias != nullptr || !is_dense(weight)) return {};
  return prepare_shape(shape_of(weight, rows), rows.rows_max);
}

Result<void>
Products::prepare_batch(const MatrixList& weights, const Steps& steps, const ProductRows& rows) {
  if (weights.matrices.empty() || !is_dense(weights.matrices.front())) return {};
  return prepare_shape(batch_shape(weights, steps, rows), rows.rows_max);
}

int Products::plan_of(const DenseShape& shape) const {
  const auto found = std::ranges::find(known_, shape, &Known::shape);
  return found == known_.end() ? -1 : found->plan;
}

void Products::run(
    device::cuda::Stream& stream,
    std::int64_t rows,
    const DeviceMatrix& weight,
    const float* bias,
    const DeviceRows& x,
    const DeviceRows& y
) {
  const bool dense = bias == nullptr && is_dense(weight);
  const int plan = dense ? plan_of(shape_of(weight, strides_of(x, y))) : -1;
  if (plan >= 0) {
    dense_.run(stream, plan, rows, weight, x, y);
    return;
  }
  kernels::cuda::matrix_product(
      stream, {.x = x, .rows = rows, .weight = weight, .bias = bias, .y = y}
  );
}

void Products::run_batch(
    device::cuda::Stream& stream,
    std::int64_t rows,
    const MatrixList& weights,
    const Steps& steps,
    const DeviceRows& x,
    const DeviceRows& y
) {
  const DeviceMatrix& first = weights.matrices.front();
  const int plan = is_dense(first) ? plan_of(batch_shape(weights, steps, strides_of(x, y))) : -1;
  if (plan >= 0) {
    dense_.run(stream, plan, rows, first, x, y);
    return;
  }
  kernels::cuda::batched_product(
      stream,
      {.x = x,
       .x_step = steps.x,
       .rows = rows,
       .weights = weights.table,
       .like = first,
       .count = weights.size(),
       .y = y,
       .y_step = steps.y}
  );
}

}  // namespace pleiad::model::cuda
