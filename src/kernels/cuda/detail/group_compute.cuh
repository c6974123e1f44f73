#pragma once

#include <cstdint>

#include "kernels/cuda/detail/group_block.cuh"
#include "kernels/cuda/detail/hopper.cuh"

// What the computing roles of grouped products' blocks share. Device code alone includes this.
namespace pleiad::kernels::cuda::hopper {

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

// Weight scales of a thread's two halves of rows, for one step.
struct WeightScales {
  float low = 0.0F;
  float high = 0.0F;
};

// Where a warp's weight scales lie: those of a gated matrix's gate and up, or twice the same.
template <bool kGated>
struct WeightScaleSource {
  const float* low;
  const float* high;

  __device__
  WeightScaleSource(const GroupedArguments& arguments, const GroupTile& tile, std::int32_t column) {
    const std::int32_t blocks = arguments.outputs / 128;
    const std::int32_t first = (kGated ? column / 2 : column) / 128;
    low = arguments.weight_scales + (std::int64_t{tile.expert} * blocks + first) * arguments.steps;
    high = kGated ? low + std::int64_t{blocks / 2} * arguments.steps : low;
  }
  __device__ WeightScales at(std::int32_t step) const {
    const float value = __ldg(low + step);
    return {value, kGated ? __ldg(high + step) : value};
  }
};

// Tiles of weight rows that run with all of an expert's activation rows before others do, so that
// the second-level cache serves both.
constexpr std::int32_t kGroupUnits = 8;

// Makes the block's view of its shared memory and work, its barriers and its schedule. Called by
// all threads.
template <class Shape>
__device__ GroupedBlock<Shape>
open_block(const GroupedArguments& arguments, unsigned char* shared, int staging) {
  auto& control = *reinterpret_cast<GroupedControl<Shape::kStages>*>(
      shared + Shape::kStages * Shape::kStageBytes + staging
  );
  const std::int32_t unit_rows = arguments.height * Shape::kCluster;
  const GroupedBlock<Shape> block{
      .arguments = arguments,
      .schedule = control.schedule,
      .shared = shared,
      .stages = shared_address(shared),
      .full = shared_address(control.full),
      .empty = shared_address(control.empty),
      .rank = Shape::kCluster > 1 ? static_cast<std::int32_t>(cluster_rank()) : 0,
      .cuts = {
          .rows_max = Shape::kRowsMax,
          .units = (arguments.outputs + unit_rows - 1) / unit_rows,
          .group_units = kGroupUnits}};
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < Shape::kStages; ++stage) {
      barrier_init(block.full_at(stage), Shape::kFullArrivals);
      barrier_init(block.empty_at(stage), kComputeGroups * 4 * Shape::kCluster);
    }
    barrier_init_fence();
  }
  if (!arguments.starts_settled) wait_for_earlier_kernels();
  let_next_kernel_start();
  read_schedule(control.schedule, arguments.starts, arguments.experts, Shape::kRowsMax);
  if constexpr (Shape::kCluster > 1) cluster_sync();
  return block;
}

// No block may end while others of its cluster still reach into it.
template <class Shape>
__device__ void close_block() {
  if constexpr (Shape::kCluster > 1) {
    __syncwarp();
    cluster_sync();
  }
}

}  // namespace pleiad::kernels::cuda::hopper
