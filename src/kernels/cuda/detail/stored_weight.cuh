#pragma once

#include <cstdint>

#include <cuda_fp8.h>

#include "kernels/cuda/detail/device_math.cuh"
#include "kernels/cuda/device_matrix.h"

// A stored weight as the float it stands for: code * scale, rounded once (kernels/weight_format.h).
namespace pleiad::kernels::cuda::detail {

__device__ inline float
scale_of(const DeviceMatrix& matrix, std::int64_t output, std::int64_t input) {
  const std::int64_t at = output * matrix.groups + input / matrix.scale_inputs;
  if (matrix.scale_type == device::DType::F32) {
    return reinterpret_cast<const float*>(matrix.scales)[at];
  }
  if (matrix.scale_type == device::DType::BF16) {
    return to_float(reinterpret_cast<const BF16*>(matrix.scales)[at]);
  }
  const auto bits = static_cast<unsigned>(matrix.scales[at]);
  // The smallest, 2^-127, is no normal float.
  return bits == 0 ? __uint_as_float(0x00400000U) : __uint_as_float(bits << 23U);
}

struct FloatWeight {
  __device__ static float weight(const DeviceMatrix& m, std::int64_t output, std::int64_t input) {
    return reinterpret_cast<const float*>(m.codes + output * m.row_bytes)[input];
  }
};

struct BF16Weight {
  __device__ static float weight(const DeviceMatrix& m, std::int64_t output, std::int64_t input) {
    return to_float(reinterpret_cast<const BF16*>(m.codes + output * m.row_bytes)[input]);
  }
};

struct E4m3Weight {
  __device__ static float weight(const DeviceMatrix& m, std::int64_t output, std::int64_t input) {
    const auto code = static_cast<__nv_fp8_storage_t>(m.codes[output * m.row_bytes + input]);
    const __half_raw half = __nv_cvt_fp8_to_halfraw(code, __NV_E4M3);
    return __half2float(__half(half)) * scale_of(m, output, input);
  }
};

// The code alone: its scale waits for the sum.
struct Int8Weight {
  __device__ static float weight(const DeviceMatrix& m, std::int64_t output, std::int64_t input) {
    return static_cast<float>(static_cast<signed char>(m.codes[output * m.row_bytes + input]));
  }
};

// The four bits of input `input`.
__device__ inline unsigned nibble(const DeviceMatrix& m, std::int64_t output, std::int64_t input) {
  const auto byte = static_cast<unsigned>(m.codes[output * m.row_bytes + input / 2]);
  return input % 2 == 0 ? byte & 0xFU : byte >> 4U;
}

struct Int4Weight {
  __device__ static float weight(const DeviceMatrix& m, std::int64_t output, std::int64_t input) {
    const int code = static_cast<int>(nibble(m, output, input) ^ 8U) - 8;
    return static_cast<float>(code) * scale_of(m, output, input);
  }
};

struct E2m1Weight {
  __device__ static float weight(const DeviceMatrix& m, std::int64_t output, std::int64_t input) {
    const unsigned code = nibble(m, output, input);
    const unsigned exponent = (code >> 1U) & 3U;
    const unsigned fraction = code & 1U;
    // Doubled, all magnitudes are whole: 0, 1, 2, 3, 4, 6, 8, 12.
    const unsigned twice = exponent == 0 ? fraction : (2U + fraction) << (exponent - 1U);
    const float magnitude = 0.5F * static_cast<float>(twice);
    // -0 counts as 0.
    const float value = (code & 8U) != 0 && twice != 0 ? -magnitude : magnitude;
    return value * scale_of(m, output, input);
  }
};

}  // namespace pleiad::kernels::cuda::detail
