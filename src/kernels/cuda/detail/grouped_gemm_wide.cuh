#pragma once

#include <cstdint>

#include <cuda_bf16.h>

#include "kernels/cuda/detail/group_compute.cuh"
#include "kernels/cuda/detail/group_feed.cuh"
#include "kernels/cuda/detail/group_store.cuh"
#include "kernels/cuda/detail/wgmma_fp8.cuh"

// The FP8 grouped product of grouped_gemm.h for many rows an expert: out = x W^T, with the
// activation rows as the tensor cores' left operand. A thread then holds two activation rows and
// many weight rows, so that scaling a step's products takes four factors where the other way round
// takes one for every two sums; the sums themselves are the same, bit for bit.
//
// A block computes 128 activation rows, 64 to a compute warpgroup, times 256 weight rows, in two
// pieces of 128 a step: the weights' scales change between them. Feeding is as in
// grouped_gemm_kernel.cuh. Bytes per step of a block: 32 KiB of weights, 16 KiB of rows; a cluster
// of two shares the rows.
namespace pleiad::kernels::cuda::hopper {

// The factors of a thread's sums for one piece: of its two rows, with the scales of even and odd
// groups of eight weight rows (a gated matrix's gate and up, else the same).
struct PieceFactors {
  float low[2];
  float high[2];
};

template <bool kGated>
__device__ PieceFactors factors_of(const WeightScales& weights, float row_0, float row_1) {
  PieceFactors out{{__fmul_rn(weights.low, row_0), __fmul_rn(weights.low, row_1)}, {0.0F, 0.0F}};
  out.high[0] = kGated ? __fmul_rn(weights.high, row_0) : out.low[0];
  out.high[1] = kGated ? __fmul_rn(weights.high, row_1) : out.low[1];
  return out;
}

// sums += one step's products with 128 weight rows, times the factors.
__device__ inline void
add_wide_piece(std::uint64_t left, std::uint64_t right, const PieceFactors& factors, float* sums) {
  float part[64];
  wgmma_fence();
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    const std::uint64_t along = 2 * static_cast<std::uint64_t>(k);
    Fp8Product<128>::add(part, left + along, right + along, k > 0 ? 1U : 0U);
  }
  wgmma_commit();
  wgmma_wait<0>();
  hold(part);
#pragma unroll
  for (int j = 0; j < 16; ++j) {
    const float* factor = j % 2 == 0 ? factors.low : factors.high;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      sums[4 * j + i] = __fmaf_rn(part[4 * j + i], factor[i / 2], sums[4 * j + i]);
    }
  }
}

// Four neighbouring outputs of a row from its sums in an even and an odd group of eight weight
// rows.
template <GroupedOutput kOutput>
__device__ void store_four(
    const GroupedArguments& arguments,
    std::int64_t row,
    int column,
    const float* even,
    const float* odd
) {
  if constexpr (kOutput == GroupedOutput::SwiGlu) {
    auto* out =
        static_cast<__nv_bfloat16*>(arguments.out) + row * (arguments.outputs / 2) + column / 2;
    *reinterpret_cast<std::uint32_t*>(out) =
        word_of(silu(even[0]) * odd[0], silu(even[1]) * odd[1]);
  } else if constexpr (kOutput == GroupedOutput::Float32) {
    auto* out = static_cast<float*>(arguments.out) + row * arguments.outputs + column;
    *reinterpret_cast<float4*>(out) = make_float4(even[0], odd[0], even[1], odd[1]);
  } else {
    auto* out = static_cast<__nv_bfloat16*>(arguments.out) + row * arguments.outputs + column;
    const float by = arguments.row_weights == nullptr ? 1.0F : __ldg(arguments.row_weights + row);
    *reinterpret_cast<uint2*>(out) =
        make_uint2(word_of(even[0] * by, odd[0] * by), word_of(even[1] * by, odd[1] * by));
  }
}

// Writes a compute warp's sums: sixteen activation rows from `first` of the tile on, 256 weight
// rows.
template <class Shape, GroupedOutput kOutput, int kSums>
__device__ void store_wide(
    const GroupedBlock<Shape>& block,
    const GroupTile& tile,
    int first,
    const float (&sums)[kSums]
) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int pair = lane % 4;
  const std::int32_t column = block.first_output(tile) + 4 * pair;
  const std::int32_t height = block.height(tile);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const std::int32_t row = first + lane / 4 + 8 * half;
    if (row >= tile.rows) continue;
#pragma unroll
    for (int sixteen = 0; sixteen < 16; ++sixteen) {
      if (sixteen * 16 >= height) continue;
      const float* even = sums + 8 * sixteen + 2 * half;
      store_four<kOutput>(block.arguments, tile.row + row, column + 16 * sixteen, even, even + 4);
    }
  }
}

template <class Shape, GroupedOutput kOutput>
__device__ void compute_wide(const GroupedBlock<Shape>& block, int warp) {
  constexpr bool kGated = kOutput == GroupedOutput::SwiGlu;
  const GroupedArguments& arguments = block.arguments;
  const auto group_offset = static_cast<std::uint32_t>(warp / 4 * 64 * kStepBytes);
  const int first_row = warp * 16;
  const int own_row = first_row + static_cast<int>(threadIdx.x) % 32 / 4;
  RingPlace<Shape::kStages> place;
  GroupTile tile;
  for (std::int32_t turn = 0; block.tile(turn, tile); ++turn) {
    float sums[128] = {};
    const std::int32_t column = block.first_output(tile);
    // The last tile may be 128 weight rows short.
    const std::int32_t next_column = min(column + kBlockRows, arguments.outputs - kBlockRows);
    const WeightScaleSource<kGated> source_0(arguments, tile, column);
    const WeightScaleSource<kGated> source_1(arguments, tile, next_column);
    WeightScales next_0 = source_0.at(0);
    WeightScales next_1 = source_1.at(0);
    for (std::int32_t step = 0; step < arguments.steps; ++step) {
      const WeightScales weights_0 = next_0;
      const WeightScales weights_1 = next_1;
      if (step + 1 < arguments.steps) {
        next_0 = source_0.at(step + 1);
        next_1 = source_1.at(step + 1);
      }
      barrier_wait(block.full_at(place.stage), place.parity);
      const float* row_scales = block.scales_of(place.stage);
      const float row_0 = row_scales[own_row];
      const float row_1 = row_scales[own_row + 8];
      const std::uint64_t left = operand(block.rows_at(place.stage) + group_offset);
      const std::uint64_t right = operand(block.weights_at(place.stage));
      add_wide_piece(left, right, factors_of<kGated>(weights_0, row_0, row_1), sums);
      add_wide_piece(
          left,
          right + kWeightStageBytes / 16,
          factors_of<kGated>(weights_1, row_0, row_1),
          sums + 64
      );
      release(block, place.stage);
      place.next();
    }
    store_wide<Shape, kOutput>(block, tile, first_row, sums);
  }
}

template <class Shape, GroupedOutput kOutput>
__global__ void __launch_bounds__(kGroupedThreads, 1) grouped_gemm_wide_kernel(
    const __grid_constant__ GroupedArguments arguments,
    const __grid_constant__ GroupedMaps maps
) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) unsigned char shared[];
  const GroupedBlock<Shape> block = open_block<Shape>(arguments, shared, staging_bytes<Shape>());
  const int warp = __shfl_sync(0xFFFFFFFFU, static_cast<int>(threadIdx.x) / 32, 0);
  if (warp < 4) {
    registers_give<40>();
    if (threadIdx.x == 0) feed(block, maps);
    if (warp > 0) feed_scales(block);
  } else {
    registers_take<232>();
    compute_wide<Shape, kOutput>(block, warp - 4);
  }
  close_block<Shape>();
#else
  __trap();  // built for GPUs without Hopper's instructions
#endif
}

}  // namespace pleiad::kernels::cuda::hopper
