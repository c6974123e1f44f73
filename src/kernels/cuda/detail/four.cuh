#pragma once

#include <cstdint>

#include "kernels/cuda/detail/device_math.cuh"

// Four neighbouring elements of a row at a time, as floats.
namespace pleiad::kernels::cuda::detail {

// REQUIRES: x aligned to four elements.
__device__ inline float4 load_four(const float* x) {
  return *reinterpret_cast<const float4*>(x);
}

__device__ inline float4 load_four(const BF16* x) {
  const uint2 bits = *reinterpret_cast<const uint2*>(x);
  return {
      __uint_as_float(bits.x << 16U),
      __uint_as_float(bits.x & 0xFFFF0000U),
      __uint_as_float(bits.y << 16U),
      __uint_as_float(bits.y & 0xFFFF0000U),
  };
}

__device__ inline void store_four(float* y, const float4& four) {
  *reinterpret_cast<float4*>(y) = four;
}

__device__ inline void store_four(BF16* y, const float4& four) {
  const auto pair = [](float low, float high) {
    return static_cast<unsigned>(from_float<BF16>(low)) |
           static_cast<unsigned>(from_float<BF16>(high)) << 16U;
  };
  *reinterpret_cast<uint2*>(y) = {pair(four.x, four.y), pair(four.z, four.w)};
}

// Up to four elements from x on, zeros past `count`.
template <typename T>
__device__ inline float4 load_some(const T* x, std::int64_t count) {
  return {
      count > 0 ? to_float(x[0]) : 0.0F,
      count > 1 ? to_float(x[1]) : 0.0F,
      count > 2 ? to_float(x[2]) : 0.0F,
      count > 3 ? to_float(x[3]) : 0.0F,
  };
}

template <typename T>
__device__ inline void store_some(T* y, const float4& four, std::int64_t count) {
  if (count > 0) y[0] = from_float<T>(four.x);
  if (count > 1) y[1] = from_float<T>(four.y);
  if (count > 2) y[2] = from_float<T>(four.z);
  if (count > 3) y[3] = from_float<T>(four.w);
}

// Either, by whether the rows are kWhole: aligned, and of a multiple of four elements.
template <bool kWhole, typename T>
__device__ inline float4 load(const T* x, std::int64_t count) {
  if constexpr (kWhole) {
    return load_four(x);
  } else {
    return load_some(x, count);
  }
}

template <bool kWhole, typename T>
__device__ inline void store(T* y, const float4& four, std::int64_t count) {
  if constexpr (kWhole) {
    store_four(y, four);
  } else {
    store_some(y, four, count);
  }
}

// `four` as it reads back from Ts.
template <typename T>
__device__ inline float4 rounded_four(const float4& four) {
  return {
      rounded_to<T>(four.x),
      rounded_to<T>(four.y),
      rounded_to<T>(four.z),
      rounded_to<T>(four.w),
  };
}

// sum + a . b, one product after the other.
__device__ inline float add_four(const float4& a, const float4& b, float sum) {
  sum = fmaf(a.x, b.x, sum);
  sum = fmaf(a.y, b.y, sum);
  sum = fmaf(a.z, b.z, sum);
  return fmaf(a.w, b.w, sum);
}

__device__ inline float4 plus(const float4& a, const float4& b) {
  return {a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w};
}

// x * factor * weight.
__device__ inline float4 scaled(const float4& x, float factor, const float4& weight) {
  return {
      x.x * factor * weight.x,
      x.y * factor * weight.y,
      x.z * factor * weight.z,
      x.w * factor * weight.w,
  };
}

}  // namespace pleiad::kernels::cuda::detail
