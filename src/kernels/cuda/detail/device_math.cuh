#pragma once

#include <algorithm>
#include <cstdint>

#include <cuda_bf16.h>

#include "base/check.h"
#include "device/dtype.h"

// What the kernels share: elements as floats, sums in a fixed order, choosing an instance by type.
namespace pleiad::kernels::cuda::detail {

using device::BF16;

inline constexpr unsigned kWarp = 32;
inline constexpr unsigned kAllLanes = 0xFFFFFFFFU;

__device__ inline float to_float(float value) {
  return value;
}

__device__ inline float to_float(BF16 bits) {
  return __uint_as_float(static_cast<unsigned>(bits) << 16U);
}

template <typename T>
__device__ inline T from_float(float value);

template <>
__device__ inline float from_float<float>(float value) {
  return value;
}

// To nearest, ties to even.
template <>
__device__ inline BF16 from_float<BF16>(float value) {
  return __bfloat16_as_ushort(__float2bfloat16_rn(value));
}

// `value` as it reads back from a T.
template <typename T>
__device__ inline float rounded_to(float value) {
  return to_float(from_float<T>(value));
}

// The sum over a warp, the same bits in every lane.
__device__ inline float warp_sum(float value) {
  for (unsigned distance = kWarp / 2; distance > 0; distance /= 2) {
    value += __shfl_xor_sync(kAllLanes, value, static_cast<int>(distance));
  }
  return value;
}

__device__ inline float warp_max(float value) {
  for (unsigned distance = kWarp / 2; distance > 0; distance /= 2) {
    value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, static_cast<int>(distance)));
  }
  return value;
}

// The sum over a block of at most 1024 threads, the same bits in every thread: warps by themselves,
// then their sums in order. `shared`: [32] floats of shared memory that may be used again at once.
__device__ inline float block_sum(float value, float* shared) {
  const unsigned warps = blockDim.x / kWarp;
  value = warp_sum(value);
  if (warps == 1) return value;
  __syncthreads();
  if (threadIdx.x % kWarp == 0) shared[threadIdx.x / kWarp] = value;
  __syncthreads();
  float sum = 0.0F;
  for (unsigned warp = 0; warp < warps; ++warp) {
    sum += shared[warp];
  }
  return sum;
}

// Threads of a block that takes up a row of `width` elements, four a thread at a time: its sums
// fall into as many chains.
inline unsigned norm_threads(std::int64_t width) {
  constexpr std::int64_t kMost = 256;
  const std::int64_t warps = (width + 4 * kWarp - 1) / (4 * kWarp);
  return static_cast<unsigned>(std::min<std::int64_t>(warps * kWarp, kMost));
}

// body(T{}) for the type of `dtype`. REQUIRES: F32 or BF16.
template <typename Body>
void with_element(device::DType dtype, Body&& body) {
  if (dtype == device::DType::F32) {
    body(float{});
  } else {
    PLEIAD_CHECK(dtype == device::DType::BF16);
    body(BF16{});
  }
}

// Blocks of `size` that cover `count`.
inline unsigned blocks_for(std::int64_t count, std::int64_t size) {
  return static_cast<unsigned>((count + size - 1) / size);
}

}  // namespace pleiad::kernels::cuda::detail
