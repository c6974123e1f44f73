#include "model/cuda/products.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include <cuda_runtime_api.h>

#include "base/check.h"
#include "device/cuda/cuda_error.h"
#include "kernels/cuda/quantize_rows.h"

namespace pleiad::model::cuda {
namespace {

using device::cuda::DeviceBuffer;
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
  if (weight.packed != nullptr) return prepare_fp8(weight, rows);
  if (weight.outputs == 0 || bias != nullptr || !is_dense(weight)) return {};
  return prepare_shape(shape_of(weight, rows), rows.rows_max);
}

Result<void> Products::prepare_codes(std::int64_t rows, std::int64_t width) {
  const auto codes = static_cast<std::size_t>(rows * width);
  const std::size_t scales =
      codes / static_cast<std::size_t>(kernels::cuda::kQuantizedGroup) * sizeof(float);
  constexpr std::string_view kRemedy = "a lower --max-num-batched-tokens needs less";
  if (codes > codes_.size()) {
    PLEIAD_TRY(memory, DeviceBuffer::allocate(codes, "quantised activations", kRemedy));
    codes_ = std::move(memory);
  }
  if (scales > scales_.size()) {
    PLEIAD_TRY(memory, DeviceBuffer::allocate(scales, "scales of activations", kRemedy));
    scales_ = std::move(memory);
  }
  return {};
}

Result<void> Products::prepare_fp8(const DeviceMatrix& weight, const ProductRows& rows) {
  // Steps are filled up to a bucket of rows.
  const std::int64_t rows_max =
      kernels::cuda::dense_row_bucket(rows.rows_max > 0 ? rows.rows_max : rows_max_);
  PLEIAD_TRY(prepare_codes(rows_max, weight.inputs));
  const std::size_t bytes = static_cast<std::size_t>(rows_max) * 2 * sizeof(std::int32_t);
  if (bytes <= starts_.size()) return {};
  std::vector<std::int32_t> bounds;
  for (std::int32_t r = 1; r <= rows_max; ++r) {
    bounds.insert(bounds.end(), {0, r});
  }
  PLEIAD_TRY(memory, DeviceBuffer::allocate(bytes, "bounds of rows"));
  PLEIAD_TRY(device::cuda::checked(
      cudaMemcpy(memory.data(), bounds.data(), bytes, cudaMemcpyHostToDevice), "bounds of rows"
  ));
  starts_ = std::move(memory);
  return {};
}

Products::Codes Products::quantize(
    device::cuda::Stream& stream,
    const DeviceRows& x,
    std::int64_t rows,
    std::int64_t width
) {
  PLEIAD_CHECK(static_cast<std::size_t>(rows * width) <= codes_.size(), "prepared codes");
  const Codes out{.codes = codes_.data(), .scales = scales_.as<float>(), .scale_stride = rows};
  kernels::cuda::quantize_rows(
      stream,
      {.x = x,
       .rows = rows,
       .width = width,
       .codes = codes_.data(),
       .scales = scales_.as<float>(),
       .scale_stride = rows}
  );
  return out;
}

// As the product of one expert that has all rows.
void Products::run_fp8(
    device::cuda::Stream& stream,
    std::int64_t rows,
    const DeviceMatrix& weight,
    const DeviceRows& x,
    const DeviceRows& y
) {
  PLEIAD_CHECK(y.stride == weight.outputs, "dense outputs");
  const Codes codes = quantize(stream, x, rows, weight.inputs);
  kernels::cuda::grouped_gemm(
      stream,
      {.shape =
           {.experts = 1,
            .outputs = static_cast<std::int32_t>(weight.outputs),
            .inputs = static_cast<std::int32_t>(weight.inputs),
            .rows_max = rows,
            .format = GroupedFormat::Fp8Blocks,
            .output =
                y.dtype == device::DType::F32 ? GroupedOutput::Float32 : GroupedOutput::BFloat16},
       .weights = {.packed = weight.packed, .scales = weight.block_scales},
       .x = codes.codes,
       .x_rows = rows,
       .x_scales = codes.scales,
       .x_scale_stride = codes.scale_stride,
       .starts = starts_.as<std::int32_t>() + 2 * (rows - 1),
       .out = y.data,
       .overlap_launch = true,
       .starts_settled = true}
  );
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
  if (weight.packed != nullptr) {
    PLEIAD_CHECK(bias == nullptr, "FP8 products have none");
    run_fp8(stream, rows, weight, x, y);
    return;
  }
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
