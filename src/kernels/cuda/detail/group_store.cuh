#pragma once

#include <cstdint>

#include <cuda_bf16.h>

#include "kernels/cuda/detail/group_block.cuh"
#include "kernels/cuda/grouped_gemm_types.h"

// From a compute warp's sums to the output of a grouped product. Device code alone includes this.
namespace pleiad::kernels::cuda::hopper {

__device__ inline float silu(float gate) {
  return __fdividef(gate, 1.0F + __expf(-gate));
}

// What the sums of rows `row` and `row` + 1 of a tile are multiplied by.
__device__ inline float2
row_weights_of(const GroupedArguments& arguments, const GroupTile& tile, std::int32_t row) {
  if (arguments.row_weights == nullptr) return {1.0F, 1.0F};
  const float* weights = arguments.row_weights + tile.row;
  return {__ldg(weights + min(row, tile.rows - 1)), __ldg(weights + min(row + 1, tile.rows - 1))};
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
      const float2 by = row_weights_of(arguments, tile, row);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        if (row + i >= tile.rows) continue;
        if constexpr (kOutput == GroupedOutput::Float32) {
          *reinterpret_cast<float2*>(
              static_cast<float*>(arguments.out) + at + i * arguments.outputs
          ) = make_float2(four[i], four[2 + i]);
        } else {
          const float factor = i == 0 ? by.x : by.y;
          *reinterpret_cast<__nv_bfloat162*>(
              static_cast<__nv_bfloat16*>(arguments.out) + at + i * arguments.outputs
          ) = __floats2bfloat162_rn(four[i] * factor, four[2 + i] * factor);
        }
      }
    }
  }
}

// Two neighbouring rounded outputs.
__device__ inline std::uint32_t word_of(float low, float high) {
  const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const std::uint32_t*>(&both);
}

// A compute warpgroup's buffers and which comes next.
struct Staging {
  std::uint32_t address = 0;
  int group = 0;
  int buffer = 0;
};

// As store_sums for a warpgroup's 64 weight rows from `first` on, `valid` of them the tile's, by
// way of shared memory, so that whole lines of rows are written at once. Of rounded outputs.
template <GroupedOutput kOutput, int kRows>
__device__ void store_staged(
    const GroupedArguments& arguments,
    const GroupTile& tile,
    std::int32_t first,
    std::int32_t valid,
    Staging& staging,
    const float* sums
) {
  constexpr int kShare = kOutput == GroupedOutput::SwiGlu ? 2 : 1;  // weight rows per output
  constexpr int kChunks = 8 / kShare;  // 16-byte pieces of a row's 64 weight rows
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32 % 4;
  const int line = lane / 4;
  const int pair = lane % 4;
  const bool is_odd = line % 2 == 1;
  const std::int64_t width = arguments.outputs / kShare;
  auto* out = static_cast<__nv_bfloat16*>(arguments.out) + tile.row * width + first / kShare;
#pragma unroll
  for (int round = 0; round < kRows / kStagedRows; ++round) {
    if (round * kStagedRows >= tile.rows) break;
    const std::uint32_t buffer =
        staging.address + static_cast<std::uint32_t>(staging.buffer * kStagedBytes);
    float weight = 1.0F;  // of the round's row of this lane
    if (kOutput == GroupedOutput::BFloat16 && arguments.row_weights != nullptr) {
      const std::int32_t row = min(round * kStagedRows + lane, tile.rows - 1);
      weight = __ldg(arguments.row_weights + tile.row + row);
    }
#pragma unroll
    for (int j = 0; j < kStagedRows / 8; ++j) {
      const float* four = sums + 4 * (round * kStagedRows / 8 + j);
      const int row = 8 * j + 2 * pair;
      if constexpr (kOutput == GroupedOutput::SwiGlu) {
        // Neighbours in `line` hold neighbouring outputs of two rows: each takes one row.
        const float low = silu(four[0]) * four[2];
        const float high = silu(four[1]) * four[3];
        const float other = __shfl_xor_sync(0xFFFFFFFFU, is_odd ? low : high, 4);
        const int own = row + (is_odd ? 1 : 0);
        const int column = warp * 8 + line / 2 * 2;
        store_shared(
            buffer + static_cast<std::uint32_t>(own * kStagedStride + column * 2),
            is_odd ? word_of(other, high) : word_of(low, other)
        );
      } else {
        const int column = warp * 16 + 2 * line;
        const auto at = static_cast<std::uint32_t>(row * kStagedStride + column * 2);
        const float first_by = __shfl_sync(0xFFFFFFFFU, weight, row);
        const float second_by = __shfl_sync(0xFFFFFFFFU, weight, row + 1);
        store_shared(buffer + at, word_of(four[0] * first_by, four[2] * first_by));
        store_shared(
            buffer + at + kStagedStride, word_of(four[1] * second_by, four[3] * second_by)
        );
      }
    }
    named_sync(3 + staging.group, kGroupThreads);
#pragma unroll
    for (int i = 0; i < kStagedRows * kChunks / kGroupThreads; ++i) {
      const int at = i * kGroupThreads + static_cast<int>(threadIdx.x) % kGroupThreads;
      const int row = round * kStagedRows + at / kChunks;
      const int chunk = at % kChunks;
      const uint4 values = load_shared_16(
          buffer + static_cast<std::uint32_t>(at / kChunks * kStagedStride + chunk * 16)
      );
      if (row < tile.rows && chunk * 8 * kShare < valid) {
        *reinterpret_cast<uint4*>(out + row * width + chunk * 8) = values;
      }
    }
    // Whoever fills this buffer again has met the others once more, after their reads.
    staging.buffer = 1 - staging.buffer;
  }
}

}  // namespace pleiad::kernels::cuda::hopper
