#pragma once

#include <cstdint>

#include "device/cuda/stream.h"
#include "kernels/cuda/grouped_gemm_types.h"

// Data for grouped products and the product in plain loops, on the GPU. All pointers are to its
// memory.
namespace pleiad::kernels::cuda {

// `count` BF16 values, or E4M3 values, evenly spread over [-1, 1].
void fill_bf16(device::cuda::Stream& stream, void* out, std::int64_t count, std::uint32_t seed);
void fill_fp8(device::cuda::Stream& stream, void* out, std::int64_t count, std::uint32_t seed);

// `count` floats, evenly spread over [low, high].
struct FloatRange {
  float low = 0.0F;
  float high = 1.0F;
};
void fill_floats(
    device::cuda::Stream& stream,
    float* out,
    std::int64_t count,
    const FloatRange& range,
    std::uint32_t seed
);

// *gigahertz = the multiprocessors' clock, measured for forty microseconds behind the work on the
// stream.
void measure_clock(device::cuda::Stream& stream, double* gigahertz);

// out[i] = rows[index[i]], rows of `row_bytes`, a multiple of 4.
struct CopyRowsTask {
  const void* rows = nullptr;
  const std::int32_t* index = nullptr;
  std::int64_t count = 0;
  std::int64_t row_bytes = 0;
  void* out = nullptr;
};
void copy_rows(device::cuda::Stream& stream, const CopyRowsTask& task);

struct GroupedReferenceTask {
  GroupedShape shape;                    // its output is not looked at
  const void* stored = nullptr;          // [experts, outputs, inputs]
  const float* weight_scales = nullptr;  // FP8: [experts, outputs / 128, inputs / 128]
  const void* x = nullptr;               // [rows, inputs], in the grouped order
  const float* x_scales = nullptr;       // FP8: [inputs / 128, x_scale_stride]
  std::int64_t x_scale_stride = 0;
  const std::int32_t* starts = nullptr;  // [experts + 1]
  std::int64_t rows = 0;
  double* out = nullptr;  // [rows, outputs]
};

// out[r, o] = the sum over i of x[r, i] * W[e(r), o, i] in double, one thread each.
void grouped_reference(device::cuda::Stream& stream, const GroupedReferenceTask& task);

}  // namespace pleiad::kernels::cuda
