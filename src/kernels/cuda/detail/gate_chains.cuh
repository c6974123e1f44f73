#pragma once

#include <cstdint>

#include "kernels/cuda/detail/device_math.cuh"

// A gate's products of BF16 rows and BF16 weights on the tensor cores (mma.sync, m16n8k16), sums in
// float. Device code alone includes this.
//
// Bits: a sum falls into kGateChains chains. A chain takes every kGateChains-th span of kGateSpan
// inputs, 16 inputs a product, and the chains are added up in order. A lane has the same eight
// neighbouring inputs of its row and of its expert, so the order within a product is the same
// wherever rows and experts stand.
namespace pleiad::kernels::cuda::detail {

inline constexpr int kGateChains = 8;
inline constexpr int kGateSpan = 64;
inline constexpr int kGateTileRows = 16;
inline constexpr int kGateTileExperts = 8;

// d += a b^T: 16 rows by 8 experts. The lane has of d rows l / 4 and 8 further down, experts
// l % 4 * 2 and the next.
__device__ inline void
gate_product(float (&d)[4], const uint4& low, const uint4& high, const uint4& expert, int half) {
  const auto pick = [half](const uint4& words, int i) {
    return half == 0 ? (i == 0 ? words.x : words.y) : (i == 0 ? words.z : words.w);
  };
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(pick(low, 0)),
        "r"(pick(high, 0)),
        "r"(pick(low, 1)),
        "r"(pick(high, 1)),
        "r"(pick(expert, 0)),
        "r"(pick(expert, 1)));
}

// Where a lane's first eight inputs begin: of rows l / 4 and 8 further down of every tile, and of
// expert l / 4.
template <int kRowTiles, int kExpertTiles>
struct GateLines {
  const BF16* rows[kRowTiles][2];
  const BF16* experts[kExpertTiles];
};

// The lane's inputs in a span begin here, and half a span further on.
__device__ inline int gate_lane_input() {
  return static_cast<int>(threadIdx.x) % 4 * 8;
}

__device__ inline uint4 eight_inputs(const BF16* at) {
  return *reinterpret_cast<const uint4*>(at);
}

// Sums of one chain, from nothing.
template <int kRowTiles, int kExpertTiles>
__device__ void multiply_chain(
    const GateLines<kRowTiles, kExpertTiles>& lines,
    int chain,
    int inputs,
    float (&sums)[kRowTiles][kExpertTiles][4]
) {
  constexpr int kUnrolled = kRowTiles == 1 ? 4 : 1;
#pragma unroll(kUnrolled)
  for (int span = chain * kGateSpan; span < inputs; span += kGateChains * kGateSpan) {
#pragma unroll
    for (int first = span; first < span + kGateSpan; first += kGateSpan / 2) {
      uint4 rows[kRowTiles][2];
      uint4 experts[kExpertTiles];
#pragma unroll
      for (int r = 0; r < kRowTiles; ++r) {
        rows[r][0] = eight_inputs(lines.rows[r][0] + first);
        rows[r][1] = eight_inputs(lines.rows[r][1] + first);
      }
#pragma unroll
      for (int e = 0; e < kExpertTiles; ++e) {
        experts[e] = eight_inputs(lines.experts[e] + first);
      }
#pragma unroll
      for (int half = 0; half < 2; ++half) {
#pragma unroll
        for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
          for (int e = 0; e < kExpertTiles; ++e) {
            gate_product(sums[r][e], rows[r][0], rows[r][1], experts[e], half);
          }
        }
      }
    }
  }
}

// The sum of a row and an expert over its chains, `stride` floats apart.
__device__ inline float sum_of_chains(const float* sums, int stride) {
  float sum = sums[0];
#pragma unroll
  for (int chain = 1; chain < kGateChains; ++chain) {
    sum += sums[chain * stride];
  }
  return sum;
}

}  // namespace pleiad::kernels::cuda::detail
