#pragma once

#include <cstdint>

#include <cuda_bf16.h>

#include "kernels/cuda/detail/attention_block.cuh"

// The softmax of attention as the tensor cores' rows lie over a warpgroup: a thread has two rows, h
// = 0 and 1 (8 further down), of each every fourth pair of columns. Device code alone includes
// this.
//
// Bits: a row's results depend on its scores and on their tokens, not on where in a tile it stands.
// Tokens it does not see weigh exactly nothing, and a page of them leaves its sums as they are.
namespace pleiad::kernels::cuda::hopper {

inline constexpr float kLog2E = 1.4426950408889634F;
inline constexpr float kNever = -__builtin_huge_valf();

__device__ inline float exp2_fast(float x) {
  float y = 0.0F;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// A maximum that differences may be taken from.
__device__ inline float base_of(float top) {
  return top == kNever ? 0.0F : top;
}

// A thread's rows over one stretch, or over several merged ones.
struct RowSums {
  float top[2] = {kNever, kNever};  // largest score
  float mass[2] = {0.0F, 0.0F};     // sum of weights; of this thread's columns until gathered
};

// Tokens [first, last] that a row sees.
struct Sight {
  int first = 0;
  int last = -1;
};

// Leaves out the scores of tokens that the rows do not see.
template <int kScores>
__device__ void hide(float (&scores)[kScores], int first_token, const Sight (&sight)[2]) {
  const int column = first_token + 2 * (static_cast<int>(threadIdx.x) % 4);
#pragma unroll
  for (int i = 0; i < kScores; ++i) {
    const int token = column + i / 4 * 8 + i % 2;
    const Sight& row = sight[i / 2 % 2];
    if (token < row.first || token > row.last) scores[i] = kNever;
  }
}

// Scores become weights relative to the largest score so far; `factors` are what sums so far are
// multiplied by, exactly 1 where the largest score stays.
template <int kScores>
__device__ void weigh(float (&scores)[kScores], float scale, RowSums& rows, float (&factors)[2]) {
  // Several chains at a time, or each would wait for itself.
  constexpr int kChains = 4;
  float tops[2][kChains];
#pragma unroll
  for (int i = 0; i < kScores; ++i) {
    const int h = i / 2 % 2;
    const int chain = i / 4 % kChains;
    float& top = tops[h][chain];
    top =
        fmaxf(scores[i], i < 4 * kChains && i % 2 == 0 ? (chain == 0 ? rows.top[h] : kNever) : top);
  }
  float offsets[2];
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    float top = fmaxf(fmaxf(tops[h][0], tops[h][1]), fmaxf(tops[h][2], tops[h][3]));
    top = fmaxf(top, __shfl_xor_sync(0xFFFFFFFFU, top, 1));
    top = fmaxf(top, __shfl_xor_sync(0xFFFFFFFFU, top, 2));
    const float base = base_of(top);
    offsets[h] = -(base * scale);
    factors[h] = exp2_fast((rows.top[h] - base) * scale);
    rows.top[h] = top;
  }
  float masses[2][kChains] = {};
#pragma unroll
  for (int i = 0; i < kScores; ++i) {
    const int h = i / 2 % 2;
    scores[i] = exp2_fast(fmaf(scores[i], scale, offsets[h]));
    masses[h][i / 4 % kChains] += scores[i];
  }
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const float mass = (masses[h][0] + masses[h][1]) + (masses[h][2] + masses[h][3]);
    rows.mass[h] = fmaf(rows.mass[h], factors[h], mass);
  }
}

__device__ inline std::uint32_t pack(float low, float high) {
  const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const std::uint32_t*>(&both);
}

// The weights as the left operand of products of 16 tokens each, rounded to BF16.
template <int kScores>
__device__ void
pack_weights(const float (&weights)[kScores], std::uint32_t (&packed)[kScores / 8][4]) {
#pragma unroll
  for (int i = 0; i < kScores / 2; ++i) {
    packed[i / 4][i % 4] = pack(weights[2 * i], weights[2 * i + 1]);
  }
}

template <int kSums>
__device__ void rescale(float (&sums)[kSums], const float (&factors)[2]) {
  const bool changes = factors[0] != 1.0F || factors[1] != 1.0F;
  if (!__any_sync(0xFFFFFFFFU, changes)) return;
#pragma unroll
  for (int i = 0; i < kSums; ++i) {
    sums[i] *= factors[i / 2 % 2];
  }
}

// Masses of all four threads of a row, the same bits in each.
__device__ inline void gather_masses(RowSums& rows) {
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    rows.mass[h] += __shfl_xor_sync(0xFFFFFFFFU, rows.mass[h], 1);
    rows.mass[h] += __shfl_xor_sync(0xFFFFFFFFU, rows.mass[h], 2);
  }
}

// How the sums of neighbouring stretches become one. An empty side changes nothing.
struct Merge {
  float top = kNever;
  float left = 0.0F;
  float right = 0.0F;

  __device__ Merge(float left_top, float right_top, float scale) : top(fmaxf(left_top, right_top)) {
    const float base = base_of(top);
    left = exp2_fast((left_top - base) * scale);
    right = exp2_fast((right_top - base) * scale);
  }
  __device__ float operator()(float left_sum, float right_sum) const {
    return fmaf(left_sum, left, right_sum * right);
  }
};

// Adds a stretch to the ones before it.
template <int kSums>
__device__ void merge_stretch(
    const RowSums& rows,
    const float (&sums)[kSums],
    float scale,
    RowSums& total_rows,
    float (&totals)[kSums]
) {
  const Merge merges[2] = {
      Merge(total_rows.top[0], rows.top[0], scale), Merge(total_rows.top[1], rows.top[1], scale)};
#pragma unroll
  for (int i = 0; i < kSums; ++i) {
    totals[i] = merges[i / 2 % 2](totals[i], sums[i]);
  }
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    total_rows.mass[h] = merges[h](total_rows.mass[h], rows.mass[h]);
    total_rows.top[h] = merges[h].top;
  }
}

// What a row's merged sum is multiplied by to become its output.
__device__ inline float
output_factor(const AttentionArguments& arguments, int head, float top, float mass) {
  if (arguments.sinks == nullptr) return 1.0F / mass;
  // The sink is a score already scaled.
  const float row = top * arguments.scale;
  const float sink = arguments.sinks[head] * kLog2E;
  const float base = fmaxf(row, sink);
  const float weight = exp2_fast(row - base);
  return weight / fmaf(mass, weight, exp2_fast(sink - base));
}

// A finished value; zero has one sign, whichever way it came about.
__device__ inline float output_value(float sum, float factor) {
  return sum * factor + 0.0F;
}

}  // namespace pleiad::kernels::cuda::hopper
