#pragma once

#include <cstdint>

#include <cuda_bf16.h>

#include "kernels/cuda/detail/group_schedule.cuh"
#include "kernels/cuda/detail/grouped_gemm_arguments.h"
#include "kernels/cuda/grouped_gemm_types.h"

// From a compute warp's sums to the output of a grouped product. Device code alone includes this.
namespace pleiad::kernels::cuda::hopper {

__device__ inline float silu(float gate) {
  return __fdividef(gate, 1.0F + __expf(-gate));
}

// Writes a compute warp's sums: sixteen weight rows times the tile's activation rows.
template <GroupedOutput kOutput, int kRows>
__device__ void store_sums(
    const GroupedArguments& arguments,
    const GroupTile& tile,
    int column,
    const float* sums
) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int line = lane / 4;
  const int pair = lane % 4;
#pragma unroll
  for (int j = 0; j < kRows / 8; ++j) {
    const float* four = sums + 4 * j;
    const std::int32_t row = 8 * j + 2 * pair;
    if constexpr (kOutput == GroupedOutput::SwiGlu) {
      // Neighbours in `line` hold neighbouring outputs of two rows: each takes one row.
      const float first = silu(four[0]) * four[2];
      const float second = silu(four[1]) * four[3];
      const bool is_odd = line % 2 == 1;
      const float other = __shfl_xor_sync(0xFFFFFFFFU, is_odd ? first : second, 4);
      const __nv_bfloat162 both =
          is_odd ? __floats2bfloat162_rn(other, second) : __floats2bfloat162_rn(first, other);
      const std::int32_t own = row + (is_odd ? 1 : 0);
      if (own < tile.rows) {
        auto* out = static_cast<__nv_bfloat16*>(arguments.out) +
                    std::int64_t{tile.row + own} * (arguments.outputs / 2) + column / 2 +
                    line / 2 * 2;
        *reinterpret_cast<__nv_bfloat162*>(out) = both;
      }
    } else {
      const std::int64_t at = std::int64_t{tile.row + row} * arguments.outputs + column + 2 * line;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        if (row + i >= tile.rows) continue;
        if constexpr (kOutput == GroupedOutput::Float32) {
          *reinterpret_cast<float2*>(
              static_cast<float*>(arguments.out) + at + i * arguments.outputs
          ) = make_float2(four[i], four[2 + i]);
        } else {
          *reinterpret_cast<__nv_bfloat162*>(
              static_cast<__nv_bfloat16*>(arguments.out) + at + i * arguments.outputs
          ) = __floats2bfloat162_rn(four[i], four[2 + i]);
        }
      }
    }
  }
}

}  // namespace pleiad::kernels::cuda::hopper
