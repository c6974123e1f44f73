#pragma once

#include <cstdint>

#include "kernels/cuda/detail/group_compute.cuh"
#include "kernels/cuda/detail/group_feed.cuh"
#include "kernels/cuda/detail/group_store.cuh"
#include "kernels/cuda/detail/wgmma_bf16.cuh"
#include "kernels/cuda/detail/wgmma_fp8.cuh"

// The grouped product of grouped_gemm.h. A block computes out^T = W x^T for up to 128 weight rows
// and up to kRowsMax activation rows, over all of K in steps of 128 bytes.
//
// Threads: one warpgroup feeds, two compute, each 64 weight rows. Feeding streams the packed
// weights by bulk copies of 16 KiB that land as the tensor cores read them, and the activation rows
// by tensor copies, or 16 bytes at a time where an index list gathers them, into a ring of kStages
// stages. A cluster of two shares its activation rows: each block fetches half of them for both.
//
// Bytes per step of a block: 16 KiB of weights from memory, 128 per activation row mostly from the
// second-level cache; the roof is memory's below about 200 rows an expert, the tensor cores' above.
//
// Bits: a BF16 sum is one chain of tensor steps over K in ascending order. An FP8 sum is a chain of
// multiply-adds over K in pieces of 128, each a chain of its own. Neither depends on kRowsMax, the
// rows of a product, the tile's height or the row's place in the tile.
namespace pleiad::kernels::cuda::hopper {

// The sums of a warpgroup's 64 weight rows with kRows activation rows, BF16.
template <class Shape, int kRows>
__device__ void sum_bf16(
    const GroupedBlock<Shape>& block,
    int warp,
    RingPlace<Shape::kStages>& place,
    float (&sums)[kRows / 2]
) {
  const std::uint32_t group_offset = static_cast<std::uint32_t>(warp / 4 * 64 * kStepBytes);
  int previous = 0;
  for (std::int32_t step = 0; step < block.arguments.steps; ++step) {
    barrier_wait(block.full_at(place.stage), place.parity);
    const std::uint64_t left = operand(block.weights_at(place.stage) + group_offset);
    const std::uint64_t right = operand(block.rows_at(place.stage));
    wgmma_fence();
#pragma unroll
    for (int part = 0; part < 4; ++part) {
      const std::uint64_t along = 2 * static_cast<std::uint64_t>(part);
      Bf16Product<kRows>::add(sums, left + along, right + along);
    }
    wgmma_commit();
    if (step > 0) {
      wgmma_wait<1>();
      release(block, previous);
    }
    previous = place.stage;
    place.next();
  }
  wgmma_wait<0>();
  release(block, previous);
  hold(sums);
}

// sums += one step's products of activation rows kFirst to before kFirst + kPiece, times both
// scales.
template <bool kGated, int kFirst, int kPiece, int kSums>
__device__ void add_fp8_piece(
    std::uint64_t left,
    std::uint64_t right,
    const float* row_scales,
    const WeightScales& scales,
    float (&sums)[kSums]
) {
  constexpr std::uint64_t kRowOffset = kFirst * kStepBytes / 16;
  const int pair = static_cast<int>(threadIdx.x) % 4;
  float part[kPiece / 2];
  wgmma_fence();
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    const std::uint64_t along = 2 * static_cast<std::uint64_t>(k);
    Fp8Product<kPiece>::add(part, left + along, right + kRowOffset + along, k > 0 ? 1U : 0U);
  }
  wgmma_commit();
  wgmma_wait<0>();
  hold(part);
#pragma unroll
  for (int j = 0; j < kPiece / 8; ++j) {
    const float2 rows = *reinterpret_cast<const float2*>(row_scales + kFirst + 8 * j + 2 * pair);
    const float low[2] = {__fmul_rn(scales.low, rows.x), __fmul_rn(scales.low, rows.y)};
    float high[2] = {low[0], low[1]};
    if constexpr (kGated) {
      high[0] = __fmul_rn(scales.high, rows.x);
      high[1] = __fmul_rn(scales.high, rows.y);
    }
    float* four = sums + (kFirst / 8 + j) * 4;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      four[i] = __fmaf_rn(part[4 * j + i], low[i], four[i]);
      four[2 + i] = __fmaf_rn(part[4 * j + 2 + i], high[i], four[2 + i]);
    }
  }
}

// The sums of a warpgroup's 64 weight rows with kRows activation rows, FP8. While one warpgroup
// scales its pieces the other keeps the tensor cores busy.
template <class Shape, bool kGated, int kRows>
__device__ void sum_fp8(
    const GroupedBlock<Shape>& block,
    const GroupTile& tile,
    int warp,
    RingPlace<Shape::kStages>& place,
    float (&sums)[kRows / 2]
) {
  constexpr int kPiece = kRows > 128 ? 128 : kRows;
  const std::uint32_t group_offset = static_cast<std::uint32_t>(warp / 4 * 64 * kStepBytes);
  // Warps below the tile's height have no weights of their own, and no scales.
  const std::int32_t column =
      min(block.first_output(tile) + warp * 16, block.arguments.outputs - 16);
  const WeightScaleSource<kGated> source(block.arguments, tile, column);
  WeightScales next = source.at(0);
  for (std::int32_t step = 0; step < block.arguments.steps; ++step) {
    const WeightScales scales = next;
    if (step + 1 < block.arguments.steps) next = source.at(step + 1);
    barrier_wait(block.full_at(place.stage), place.parity);
    const std::uint64_t left = operand(block.weights_at(place.stage) + group_offset);
    const std::uint64_t right = operand(block.rows_at(place.stage));
    const float* row_scales = block.scales_of(place.stage);
    add_fp8_piece<kGated, 0, kPiece>(left, right, row_scales, scales, sums);
    if constexpr (kRows > kPiece) {
      add_fp8_piece<kGated, kPiece, kRows - kPiece>(left, right, row_scales, scales, sums);
    }
    __syncwarp();
    release(block, place.stage);
    place.next();
  }
}

// A warpgroup's part of a tile, and out.
template <class Shape, GroupedOutput kOutput, int kRows>
__device__ void compute_tile(
    const GroupedBlock<Shape>& block,
    const GroupTile& tile,
    int warp,  // of the compute warps
    RingPlace<Shape::kStages>& place,
    Staging& staging
) {
  constexpr bool kIsStaged =
      Shape::kRowsMax > 64 && kRows >= 64 && kOutput != GroupedOutput::Float32;
  float sums[kRows / 2] = {};
  if constexpr (Shape::kFp8) {
    sum_fp8<Shape, kOutput == GroupedOutput::SwiGlu, kRows>(block, tile, warp, place, sums);
  } else {
    sum_bf16<Shape, kRows>(block, warp, place, sums);
  }
  if constexpr (kIsStaged) {
    const std::int32_t above = warp / 4 * 64;
    const std::int32_t valid = min(64, block.height(tile) - above);
    const std::int32_t first = block.first_output(tile) + above;
    if (valid > 0) store_staged<kOutput, kRows>(block.arguments, tile, first, valid, staging, sums);
    return;
  }
  if (warp * 16 >= block.height(tile)) return;
  store_sums<kOutput, kRows>(block.arguments, tile, block.first_output(tile) + warp * 16, sums);
}

template <class Shape, GroupedOutput kOutput>
__device__ void compute(const GroupedBlock<Shape>& block, int warp, std::uint32_t staging_address) {
  RingPlace<Shape::kStages> place;
  const int group = warp / 4;
  const auto group_offset = static_cast<std::uint32_t>(group * kStagedBuffers * kStagedBytes);
  Staging staging{.address = staging_address + group_offset, .group = group};
  GroupTile tile;
  for (std::int32_t turn = 0; block.tile(turn, tile); ++turn) {
    const std::int32_t rows = product_rows(tile.rows);
    if constexpr (Shape::kRowsMax >= 256) {
      if (rows == 256) {
        compute_tile<Shape, kOutput, 256>(block, tile, warp, place, staging);
        continue;
      }
      if (rows == 192) {
        compute_tile<Shape, kOutput, 192>(block, tile, warp, place, staging);
        continue;
      }
      if (rows == 128) {
        compute_tile<Shape, kOutput, 128>(block, tile, warp, place, staging);
        continue;
      }
    }
    if (rows == 64) {
      compute_tile<Shape, kOutput, 64>(block, tile, warp, place, staging);
    } else if (rows == 32) {
      compute_tile<Shape, kOutput, 32>(block, tile, warp, place, staging);
    } else if (rows == 16) {
      compute_tile<Shape, kOutput, 16>(block, tile, warp, place, staging);
    } else {
      compute_tile<Shape, kOutput, 8>(block, tile, warp, place, staging);
    }
  }
}

template <class Shape, GroupedOutput kOutput>
__global__ void __launch_bounds__(kGroupedThreads, 1) grouped_gemm_kernel(
    const __grid_constant__ GroupedArguments arguments,
    const __grid_constant__ GroupedMaps maps
) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) unsigned char shared[];
  const GroupedBlock<Shape> block = open_block<Shape>(arguments, shared, staging_bytes<Shape>());
  const int warp = __shfl_sync(0xFFFFFFFFU, static_cast<int>(threadIdx.x) / 32, 0);
  if (warp < 4) {
    registers_give<56>();
    if constexpr (Shape::kGather) {
      feed_gathered(block);
    } else {
      if (threadIdx.x == 0) feed(block, maps);
      if constexpr (Shape::kFp8) {
        if (warp > 0) feed_scales(block);
      }
    }
  } else {
    registers_take<224>();
    const std::uint32_t staging = block.stages + Shape::kStages * Shape::kStageBytes;
    compute<Shape, kOutput>(block, warp - 4, staging);
  }
  close_block<Shape>();
#else
  __trap();  // built for GPUs without Hopper's instructions
#endif
}

}  // namespace pleiad::kernels::cuda::hopper
