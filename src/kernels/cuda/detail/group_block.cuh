#pragma once

#include <cstdint>

#include "kernels/cuda/detail/group_schedule.cuh"
#include "kernels/cuda/detail/grouped_gemm_arguments.h"
#include "kernels/cuda/detail/hopper.cuh"
#include "kernels/cuda/grouped_gemm_types.h"

// What the roles of a grouped product's block share: the ring of stages in shared memory and the
// block's view of the work. Device code alone includes this.
namespace pleiad::kernels::cuda::hopper {

constexpr int kBlockRows = 128;  // weight rows of a packed block, and of a tile at most
constexpr int kStepBytes = 128;  // of K, of one row, a step
constexpr int kWeightStageBytes = kBlockRows * kStepBytes;
constexpr int kGroupThreads = 128;  // a warpgroup
constexpr int kScaleThreads =
    kGroupThreads - 32;  // of the feeding warpgroup, all but its first warp
constexpr int kComputeGroups = 2;
constexpr int kGroupedThreads = kGroupThreads * (1 + kComputeGroups);

template <
    GroupedFormat kFormatValue,
    int kRowsMaxValue,
    int kStagesValue,
    int kClusterValue,
    bool kGatherValue>
struct GroupedShapeOf {
  static constexpr bool kFp8 = kFormatValue == GroupedFormat::Fp8Blocks;
  static constexpr int kRowsMax = kRowsMaxValue;
  static constexpr int kStages = kStagesValue;
  static constexpr int kCluster = kClusterValue;
  static constexpr bool kGather = kGatherValue;
  // Behind the weights and the rows of a stage: the rows' scales, filled up to what tensor cores
  // align to.
  static constexpr int kScaleBytes = kFp8 ? (kRowsMax * 4 + 1023) / 1024 * 1024 : 0;
  static constexpr int kWeightBytes = kWeightStageBytes;
  static constexpr int kRowBytes = kRowsMax * kStepBytes;
  static constexpr int kStageBytes = kWeightBytes + kRowBytes + kScaleBytes;
  // Arrivals that a full stage waits for beside its bytes.
  static constexpr int kFullArrivals =
      kGather ? 1 + kGroupThreads / 32 : 1 + (kFp8 ? kScaleThreads : 0);
  // Steps whose gathered rows are under way before the oldest is waited for.
  static constexpr int kGatherAhead = kStages / 2;
};

// The shape whose right operand is the weights: 256 rows of them and 128 activation rows, FP8.
struct WideShape {
  static constexpr bool kFp8 = true;
  static constexpr int kRowsMax = 128;
  static constexpr int kStages = 4;
  static constexpr int kCluster = 1;
  static constexpr bool kGather = false;
  static constexpr int kScaleBytes = 1024;
  static constexpr int kWeightBytes = 2 * kWeightStageBytes;
  static constexpr int kRowBytes = kRowsMax * kStepBytes;
  static constexpr int kStageBytes = kWeightBytes + kRowBytes + kScaleBytes;
  static constexpr int kFullArrivals = 1 + kScaleThreads;
};

// What shared memory holds beside the stages.
template <int kStages>
struct GroupedControl {
  std::uint64_t full[kStages];
  std::uint64_t empty[kStages];
  GroupSchedule schedule;
};

// Buffers behind the stages in which a compute warpgroup lays out finished rows: each for 32
// activation rows of 64 rounded outputs, with a gap that keeps the banks apart.
constexpr int kStagedRows = 32;
constexpr int kStagedStride = 144;
constexpr int kStagedBytes = kStagedRows * kStagedStride;
constexpr int kStagedBuffers = 2;

template <class Shape>
constexpr int staging_bytes() {
  return Shape::kRowsMax > 128 ? kComputeGroups * kStagedBuffers * kStagedBytes : 0;
}

template <class Shape>
constexpr int grouped_shared_bytes() {
  return Shape::kStages * Shape::kStageBytes + staging_bytes<Shape>() +
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
  const unsigned char* shared;
  std::uint32_t stages;  // shared addresses
  std::uint32_t full;
  std::uint32_t empty;
  std::int32_t rank;  // in the cluster
  TileCuts cuts;

  __device__ std::uint32_t weights_at(int stage) const {
    return stages + static_cast<std::uint32_t>(stage * Shape::kStageBytes);
  }
  __device__ std::uint32_t rows_at(int stage) const {
    return weights_at(stage) + Shape::kWeightBytes;
  }
  __device__ std::uint32_t scales_at(int stage) const { return rows_at(stage) + Shape::kRowBytes; }
  __device__ const float* scales_of(int stage) const {
    return reinterpret_cast<const float*>(
        shared + stage * Shape::kStageBytes + Shape::kWeightBytes + Shape::kRowBytes
    );
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
        schedule, arguments.starts, arguments.experts, cuts, cluster + turn * clusters, tile
    );
  }
  // First of the tile's weight rows, in packed order, and how many they are.
  __device__ std::int32_t first_output(const GroupTile& tile) const {
    return (tile.unit * Shape::kCluster + rank) * arguments.height;
  }
  __device__ std::int32_t height(const GroupTile& tile) const {
    return min(arguments.height, arguments.outputs - first_output(tile));
  }
};

}  // namespace pleiad::kernels::cuda::hopper
