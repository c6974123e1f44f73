#pragma once

#include <cstdint>

#include "device/arena_plan.h"
#include "device/cuda/device_scratch.h"
#include "device/cuda/stream.h"
#include "kernels/cuda/paged_attention.h"
#include "kernels/cuda/row_ops.h"
#include "model/cuda/products.h"

namespace pleiad::model::cuda {

// What every layer of a rank works with.
struct GpuContext {
  device::cuda::Stream* stream = nullptr;
  Products* products = nullptr;
  device::DType activation = device::DType::F32;  // BF16 under Compute::BFloat16
};

// Rows that layers make room for.
struct GpuLimits {
  std::int64_t rows_max = 0;        // of a step, filled up to a bucket of kernels/cuda/dense_gemm.h
  std::int64_t split_rows_max = 0;  // rows of a step whose attention is spread over the GPU
};

// One attention layer's input and output.
struct GpuAttentionStep {
  DeviceRows x;  // [rows, hidden], activations
  std::int64_t rows = 0;
  kernels::cuda::RowPlaces places;
  const float* cos_sin = nullptr;  // [positions, 2, rope / 2]
  std::byte* cache = nullptr;      // the layer's pages
  std::size_t page_stride = 0;
  std::int64_t window = 0;
  DeviceRows delta;  // [rows, hidden], activations: the layer's output
};

// Reserves `elements` a row of `dtype` for every row of `limits`.
inline device::RegionId reserve_rows(
    device::ArenaPlan& plan,
    const char* name,
    const GpuLimits& limits,
    std::int64_t elements,
    device::DType dtype
) {
  const auto bytes = static_cast<std::size_t>(limits.rows_max * elements) * device::size_of(dtype);
  return plan.reserve(name, bytes, 0, 0);
}

// A region as dense rows.
inline DeviceRows rows_at(
    const device::cuda::DeviceScratch& memory,
    device::RegionId region,
    std::int64_t width,
    device::DType dtype
) {
  return {.data = memory.get<std::byte>(region), .stride = width, .dtype = dtype};
}

}  // namespace pleiad::model::cuda
