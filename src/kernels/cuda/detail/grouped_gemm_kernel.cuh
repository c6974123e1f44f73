#pragma once

#include <cstdint>

#include <cuda_bf16.h>

#include "kernels/cuda/detail/group_schedule.cuh"
#include "kernels/cuda/detail/grouped_gemm_arguments.h"
#include "kernels/cuda/detail/hopper.cuh"
#include "kernels/cuda/detail/wgmma_bf16.cuh"
#include "kernels/cuda/grouped_gemm_types.h"

// The BF16 grouped product of grouped_gemm.h. A block computes out^T = W x^T for 128 weight rows
// and up to kRowsMax activation rows, over all of K in steps of 64.
//
// Threads: one warpgroup feeds, two compute, each 64 weight rows. Feeding streams the packed
// weights by bulk copies of 16 KiB that land as the tensor cores read them, and the activation rows
// by tensor copies, or 16 bytes at a time where an index list gathers them, into a ring of kStages
// stages. A cluster of two shares its activation rows: each block fetches half of them for both.
//
// Bytes per step of a block: 16 KiB of weights from memory, 128 per activation row mostly from the
// second-level cache; the roof is memory's below about 200 rows an expert, the tensor cores' above.
//
// Bits: a sum is one chain of wgmma steps over K in ascending order, whatever kRowsMax, the rows of
// a product, or the row's place in the tile.
namespace pleiad::kernels::cuda::hopper {

constexpr int kTileWeights = 128;  // weight rows of a block
constexpr int kStepBytes = 128;    // of K, of one row, a step
constexpr int kWeightStageBytes = kTileWeights * kStepBytes;
constexpr int kGroupThreads = 128;  // a warpgroup
constexpr int kComputeGroups = 2;
constexpr int kGroupedThreads = kGroupThreads * (1 + kComputeGroups);

template <int kRowsMaxValue, int kStagesValue, int kClusterValue, bool kGatherValue>
struct GroupedShapeOf {
  static constexpr int kRowsMax = kRowsMaxValue;
  static constexpr int kStages = kStagesValue;
  static constexpr int kCluster = kClusterValue;
  static constexpr bool kGather = kGatherValue;
  static constexpr int kStageBytes = kWeightStageBytes + kRowsMax * kStepBytes;
  // Steps whose gathered rows are under way before the oldest is waited for.
  static constexpr int kGatherAhead = kStages / 2;
};

// What shared memory holds beside the stages.
template <int kStages>
struct GroupedControl {
  std::uint64_t full[kStages];
  std::uint64_t empty[kStages];
  GroupSchedule schedule;
};

template <class Shape>
constexpr int grouped_shared_bytes() {
  return Shape::kStages * Shape::kStageBytes +
         static_cast<int>(sizeof(GroupedControl<Shape::kStages>));
}

// Where in the ring a thread stands.
template <int kStages>
struct RingPlace {
  int stage = 0;
  std::uint32_t parity = 0;

  __device__ void next() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1U;
    }
  }
};

// A block's view of its shared memory and work.
template <class Shape>
struct GroupedBlock {
  const GroupedArguments& arguments;
  const GroupSchedule& schedule;
  std::uint32_t stages;  // shared addresses
  std::uint32_t full;
  std::uint32_t empty;
  std::int32_t rank;   // in the cluster
  std::int32_t units;  // 128 weight rows times the cluster

  __device__ std::uint32_t weights_at(int stage) const {
    return stages + static_cast<std::uint32_t>(stage * Shape::kStageBytes);
  }
  __device__ std::uint32_t rows_at(int stage) const {
    return weights_at(stage) + kWeightStageBytes;
  }
  __device__ std::uint32_t full_at(int stage) const {
    return full + static_cast<std::uint32_t>(stage) * 8;
  }
  __device__ std::uint32_t empty_at(int stage) const {
    return empty + static_cast<std::uint32_t>(stage) * 8;
  }
  __device__ bool tile(std::int32_t turn, GroupTile& tile) const {
    const std::int32_t cluster = static_cast<std::int32_t>(blockIdx.x) / Shape::kCluster;
    const std::int32_t clusters = static_cast<std::int32_t>(gridDim.x) / Shape::kCluster;
    return tile_at(
        schedule, arguments.experts, units, Shape::kRowsMax, cluster + turn * clusters, tile
    );
  }
  __device__ std::int32_t weight_tile(const GroupTile& tile) const {
    return tile.unit * Shape::kCluster + rank;
  }
  __device__ const unsigned char* weights_of(const GroupTile& tile) const {
    const std::int64_t number =
        std::int64_t{tile.expert} * units * Shape::kCluster + weight_tile(tile);
    return arguments.weights + number * arguments.steps * kWeightStageBytes;
  }
  __device__ void wait_empty(const RingPlace<Shape::kStages>& place) const {
    if constexpr (Shape::kCluster > 1) {
      barrier_wait_cluster(empty_at(place.stage), place.parity ^ 1U);
    } else {
      barrier_wait(empty_at(place.stage), place.parity ^ 1U);
    }
  }
};

// Few rows an expert read its weights once; with more, other blocks read them soon after.
template <class Shape>
__device__ std::uint64_t weight_policy() {
  return Shape::kRowsMax <= 64 ? evict_first_policy() : evict_normal_policy();
}

// One thread feeds the ring.
template <class Shape>
__device__ void
feed(const GroupedBlock<Shape>& block, const CUtensorMap* map_64, const CUtensorMap* map_8) {
  constexpr std::uint16_t kAllBlocks = (1U << Shape::kCluster) - 1;
  const std::uint64_t policy = weight_policy<Shape>();
  RingPlace<Shape::kStages> place;
  GroupTile tile;
  for (std::int32_t turn = 0; block.tile(turn, tile); ++turn) {
    const unsigned char* weights = block.weights_of(tile);
    const std::int32_t rows = product_rows(tile.rows);
    const bool wide = rows >= 64;
    const std::int32_t box = wide ? 64 : 8;
    const std::uint32_t bytes = kWeightStageBytes + static_cast<std::uint32_t>(rows * kStepBytes);
    const CUtensorMap* map = wide ? map_64 : map_8;
    for (std::int32_t step = 0; step < block.arguments.steps; ++step) {
      block.wait_empty(place);
      const std::uint32_t full = block.full_at(place.stage);
      barrier_arrive_expect(full, bytes);
      copy_bulk(block.weights_at(place.stage), weights, kWeightStageBytes, full, policy);
      weights += kWeightStageBytes;
      for (std::int32_t first = 0; first < rows; first += box) {
        const std::uint32_t target =
            block.rows_at(place.stage) + static_cast<std::uint32_t>(first * kStepBytes);
        if constexpr (Shape::kCluster > 1) {
          if (first / box % Shape::kCluster != block.rank) continue;
          copy_box_multicast(
              target, map, step * block.arguments.step_values, tile.row + first, full, kAllBlocks
          );
        } else {
          copy_box(target, map, step * block.arguments.step_values, tile.row + first, full);
        }
      }
      place.next();
    }
  }
}

// A warpgroup feeds the ring; its threads gather activation rows through the index list.
template <class Shape>
__device__ void feed_gathered(const GroupedBlock<Shape>& block) {
  constexpr int kRowsPerThread = (Shape::kRowsMax + 15) / 16;
  constexpr int kAhead = Shape::kGatherAhead;
  const int thread = static_cast<int>(threadIdx.x) % kGroupThreads;
  const bool is_lane_0 = thread % 32 == 0;
  const int chunk = thread % 8;
  const int row_0 = thread / 8;
  // Rows of a thread lie 16 apart, so the permutation of their chunks is the same.
  const auto offset_0 =
      static_cast<std::uint32_t>(row_0 * kStepBytes + ((chunk ^ (row_0 % 8)) * 16));
  const std::uint64_t policy = weight_policy<Shape>();
  const std::int64_t row_bytes = std::int64_t{block.arguments.steps} * kStepBytes;
  RingPlace<Shape::kStages> place;
  int waiting = 0;  // steps whose rows are under way
  const auto land = [&](int behind) {
    fence_async_proxy();
    __syncwarp();
    const int stage = (place.stage + Shape::kStages - behind) % Shape::kStages;
    if (is_lane_0) barrier_arrive(block.full_at(stage));
  };
  GroupTile tile;
  for (std::int32_t turn = 0; block.tile(turn, tile); ++turn) {
    const unsigned char* weights = block.weights_of(tile);
    const std::int32_t rows = product_rows(tile.rows);
    const unsigned char* sources[kRowsPerThread];
#pragma unroll
    for (int i = 0; i < kRowsPerThread; ++i) {
      const std::int32_t row = tile.row + min(row_0 + 16 * i, tile.rows - 1);
      sources[i] = block.arguments.x + block.arguments.x_index[row] * row_bytes + chunk * 16;
    }
    for (std::int32_t step = 0; step < block.arguments.steps; ++step) {
      block.wait_empty(place);
      if (thread == 0) {
        const std::uint32_t full = block.full_at(place.stage);
        barrier_arrive_expect(full, kWeightStageBytes);
        copy_bulk(block.weights_at(place.stage), weights, kWeightStageBytes, full, policy);
      }
      weights += kWeightStageBytes;
      const std::uint32_t target = block.rows_at(place.stage) + offset_0;
#pragma unroll
      for (int i = 0; i < kRowsPerThread; ++i) {
        if (row_0 + 16 * i < rows) {
          copy_async_16(target + static_cast<std::uint32_t>(i * 16 * kStepBytes), sources[i]);
        }
        sources[i] += kStepBytes;
      }
      copy_async_commit();
      if (waiting == kAhead) {
        copy_async_wait<kAhead>();
        land(kAhead);
      } else {
        ++waiting;
      }
      place.next();
    }
  }
  copy_async_wait<0>();
  for (; waiting > 0; --waiting)
    land(waiting);
}

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

// This warp is done with a stage, for every block that fills it.
template <class Shape>
__device__ inline void release(const GroupedBlock<Shape>& block, int stage) {
  const auto lane = threadIdx.x % 32;
  if constexpr (Shape::kCluster > 1) {
    if (lane < Shape::kCluster) barrier_arrive_remote(block.empty_at(stage), lane);
  } else {
    if (lane == 0) barrier_arrive(block.empty_at(stage));
  }
}

// A warpgroup's 64 weight rows times kRows activation rows, over all of K, and out.
template <class Shape, GroupedOutput kOutput, int kRows>
__device__ void compute_tile(
    const GroupedBlock<Shape>& block,
    const GroupTile& tile,
    int warp,  // of the compute warps
    RingPlace<Shape::kStages>& place
) {
  const std::uint32_t group_offset = static_cast<std::uint32_t>(warp / 4 * 64 * kStepBytes);
  float sums[kRows / 2] = {};
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
  const int column = block.weight_tile(tile) * kTileWeights + warp * 16;
  store_sums<kOutput, kRows>(block.arguments, tile, column, sums);
}

template <class Shape, GroupedOutput kOutput>
__device__ void compute(const GroupedBlock<Shape>& block, int warp) {
  RingPlace<Shape::kStages> place;
  GroupTile tile;
  for (std::int32_t turn = 0; block.tile(turn, tile); ++turn) {
    const std::int32_t rows = product_rows(tile.rows);
    if constexpr (Shape::kRowsMax >= 256) {
      if (rows == 256) {
        compute_tile<Shape, kOutput, 256>(block, tile, warp, place);
        continue;
      }
      if (rows == 192) {
        compute_tile<Shape, kOutput, 192>(block, tile, warp, place);
        continue;
      }
    }
    if constexpr (Shape::kRowsMax >= 128) {
      if (rows == 128) {
        compute_tile<Shape, kOutput, 128>(block, tile, warp, place);
        continue;
      }
    }
    if (rows == 64) {
      compute_tile<Shape, kOutput, 64>(block, tile, warp, place);
    } else if (rows == 32) {
      compute_tile<Shape, kOutput, 32>(block, tile, warp, place);
    } else if (rows == 16) {
      compute_tile<Shape, kOutput, 16>(block, tile, warp, place);
    } else {
      compute_tile<Shape, kOutput, 8>(block, tile, warp, place);
    }
  }
}

template <class Shape, GroupedOutput kOutput>
__global__ void __launch_bounds__(kGroupedThreads, 1) grouped_gemm_kernel(
    const __grid_constant__ GroupedArguments arguments,
    const __grid_constant__ CUtensorMap map_64,
    const __grid_constant__ CUtensorMap map_8
) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) unsigned char shared[];
  auto& control = *reinterpret_cast<GroupedControl<Shape::kStages>*>(
      shared + Shape::kStages * Shape::kStageBytes
  );
  const GroupedBlock<Shape> block{
      .arguments = arguments,
      .schedule = control.schedule,
      .stages = shared_address(shared),
      .full = shared_address(control.full),
      .empty = shared_address(control.empty),
      .rank = Shape::kCluster > 1 ? static_cast<std::int32_t>(cluster_rank()) : 0,
      .units = arguments.outputs / (kTileWeights * Shape::kCluster)};
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < Shape::kStages; ++stage) {
      barrier_init(block.full_at(stage), Shape::kGather ? 1 + kGroupThreads / 32 : 1);
      barrier_init(block.empty_at(stage), kComputeGroups * 4 * Shape::kCluster);
    }
    barrier_init_fence();
    if (!Shape::kGather) {
      prefetch_map(&map_64);
      prefetch_map(&map_8);
    }
  }
  wait_for_earlier_kernels();
  let_next_kernel_start();
  read_schedule(control.schedule, arguments.starts, arguments.experts, Shape::kRowsMax);
  if constexpr (Shape::kCluster > 1) cluster_sync();

  const int warp = __shfl_sync(0xFFFFFFFFU, static_cast<int>(threadIdx.x) / 32, 0);
  if (warp < 4) {
    registers_give<Shape::kGather ? 56 : 40>();
    if constexpr (Shape::kGather) {
      feed_gathered(block);
    } else {
      if (threadIdx.x == 0) feed(block, &map_64, &map_8);
    }
  } else {
    registers_take<Shape::kGather ? 224 : 232>();
    compute<Shape, kOutput>(block, warp - 4);
  }
  if constexpr (Shape::kCluster > 1) {
    __syncwarp();
    cluster_sync();
  }
#else
  __trap();  // built for GPUs without Hopper's instructions
#endif
}

}  // namespace pleiad::kernels::cuda::hopper
