#pragma once

#include <cstdint>

#include <cuda.h>

#include "kernels/cuda/detail/group_block.cuh"

// The feeding roles of a grouped product's block: they keep the ring of stages full. Device code
// alone includes this.
namespace pleiad::kernels::cuda::hopper {

// Boxes of 64 and 8 activation rows.
struct GroupedMaps {
  CUtensorMap rows_64;
  CUtensorMap rows_8;
};

// Few rows an expert read its weights once; with more, other blocks read them soon after.
template <class Shape>
__device__ std::uint64_t weight_policy() {
  return Shape::kRowsMax <= 64 ? evict_first_policy() : evict_normal_policy();
}

// The weights of one tile, step by step. A tile may end in the packed block after the one it begins
// in.
struct WeightSource {
  const unsigned char* first;
  const unsigned char* second;
  std::uint32_t first_bytes;
  std::uint32_t second_bytes;

  template <class Shape>
  __device__ WeightSource(const GroupedBlock<Shape>& block, const GroupTile& tile) {
    const GroupedArguments& arguments = block.arguments;
    const std::int32_t row = block.first_output(tile);
    const std::int32_t rows = block.height(tile);
    const std::int32_t first_rows = min(rows, kBlockRows - row % kBlockRows);
    const std::int64_t block_bytes = std::int64_t{arguments.steps} * kWeightStageBytes;
    const std::int64_t number =
        std::int64_t{tile.expert} * (arguments.outputs / kBlockRows) + row / kBlockRows;
    first = arguments.weights + number * block_bytes + row % kBlockRows * kStepBytes;
    second = arguments.weights + (number + 1) * block_bytes;
    first_bytes = static_cast<std::uint32_t>(first_rows * kStepBytes);
    second_bytes = static_cast<std::uint32_t>((rows - first_rows) * kStepBytes);
  }

  // Starts the copies of `step` to `target`.
  __device__ void
  copy(std::int32_t step, std::uint32_t target, std::uint32_t full, std::uint64_t policy) const {
    const std::int64_t offset = std::int64_t{step} * kWeightStageBytes;
    copy_bulk(target, first + offset, first_bytes, full, policy);
    if (second_bytes > 0) {
      copy_bulk(target + first_bytes, second + offset, second_bytes, full, policy);
    }
  }
};

// Starts the copies of a tile's activation rows of `step`; in a cluster each block those of its
// share, for all.
template <class Shape>
__device__ void copy_rows(
    const GroupedBlock<Shape>& block,
    const GroupedMaps& maps,
    const GroupTile& tile,
    std::int32_t step,
    int stage
) {
  constexpr std::uint16_t kAllBlocks = (1U << Shape::kCluster) - 1;
  const std::int32_t rows = product_rows(tile.rows);
  const std::int32_t box = rows >= 64 ? 64 : 8;
  const CUtensorMap* map = rows >= 64 ? &maps.rows_64 : &maps.rows_8;
  const std::uint32_t full = block.full_at(stage);
  const std::int32_t column = step * block.arguments.step_values;
  for (std::int32_t first = block.rank * box; first < rows; first += Shape::kCluster * box) {
    const std::uint32_t target =
        block.rows_at(stage) + static_cast<std::uint32_t>(first * kStepBytes);
    if constexpr (Shape::kCluster > 1) {
      copy_box_multicast(target, map, column, tile.row + first, full, kAllBlocks);
    } else {
      copy_box(target, map, column, tile.row + first, full);
    }
  }
}

// One thread feeds the ring. Where the row counts were settled early it fetches the first weights
// while the kernel before this one, which makes the activations, still runs.
template <class Shape>
__device__ void feed(const GroupedBlock<Shape>& block, const GroupedMaps& maps) {
  const std::uint64_t policy = weight_policy<Shape>();
  RingPlace<Shape::kStages> place;
  std::int32_t fetched = 0;
  GroupTile tile;
  for (std::int32_t turn = 0; block.tile(turn, tile); ++turn) {
    const WeightSource weights(block, tile);
    const std::int32_t rows = product_rows(tile.rows);
    const std::uint32_t bytes =
        weights.first_bytes + weights.second_bytes + static_cast<std::uint32_t>(rows * kStepBytes);
    const auto fetch_weights = [&](std::int32_t step, int stage) {
      barrier_arrive_expect(block.full_at(stage), bytes);
      weights.copy(step, block.weights_at(stage), block.full_at(stage), policy);
    };
    if (turn == 0 && block.arguments.starts_settled) {
      for (; fetched < min(Shape::kStages, block.arguments.steps); ++fetched) {
        fetch_weights(fetched, fetched);
      }
      wait_for_earlier_kernels();
    }
    for (std::int32_t step = 0; step < block.arguments.steps; ++step) {
      if (fetched > 0) {
        --fetched;
      } else {
        barrier_wait(block.empty_at(place.stage), place.parity ^ 1U);
        fetch_weights(step, place.stage);
      }
      copy_rows(block, maps, tile, step, place.stage);
      place.next();
    }
  }
  // A block without tiles must not end before the kernels that those behind this one rely on.
  wait_for_earlier_kernels();
}

// Three warps bring the scales of FP8 rows, which begin where no bulk copy may.
template <class Shape>
__device__ void feed_scales(const GroupedBlock<Shape>& block) {
  const GroupedArguments& arguments = block.arguments;
  RingPlace<Shape::kStages> place;
  wait_for_earlier_kernels();
  GroupTile tile;
  for (std::int32_t turn = 0; block.tile(turn, tile); ++turn) {
    const float* scales = arguments.x_scales + tile.row;
    for (std::int32_t step = 0; step < arguments.steps; ++step) {
      barrier_wait(block.empty_at(place.stage), place.parity ^ 1U);
      for (auto row = static_cast<std::int32_t>(threadIdx.x) - 32; row < tile.rows;
           row += kScaleThreads) {
        copy_async<4>(
            block.scales_at(place.stage) + static_cast<std::uint32_t>(row * 4), scales + row
        );
      }
      copy_async_arrive(block.full_at(place.stage));
      scales += arguments.x_scale_stride;
      place.next();
    }
  }
}

// A warpgroup feeds the ring; its threads gather activation rows through the index list.
template <class Shape>
__device__ void feed_gathered(const GroupedBlock<Shape>& block) {
  constexpr int kRowsPerThread = (Shape::kRowsMax + 15) / 16;
  constexpr int kAhead = Shape::kGatherAhead;
  const GroupedArguments& arguments = block.arguments;
  const int thread = static_cast<int>(threadIdx.x) % kGroupThreads;
  const bool is_lane_0 = thread % 32 == 0;
  const int chunk = thread % 8;
  const int row_0 = thread / 8;
  // Rows of a thread lie 16 apart, so the permutation of their chunks is the same.
  const auto offset_0 = static_cast<std::uint32_t>(row_0 * kStepBytes + (chunk ^ (row_0 % 8)) * 16);
  const std::uint64_t policy = weight_policy<Shape>();
  const auto row_chunks = static_cast<std::uint32_t>(arguments.steps) * 8;
  RingPlace<Shape::kStages> place;
  int waiting = 0;  // steps whose rows are under way
  const auto land = [&](int behind) {
    fence_async_proxy();
    __syncwarp();
    const int stage = (place.stage + Shape::kStages - behind) % Shape::kStages;
    if (is_lane_0) barrier_arrive(block.full_at(stage));
  };
  wait_for_earlier_kernels();
  GroupTile tile;
  for (std::int32_t turn = 0; block.tile(turn, tile); ++turn) {
    const WeightSource weights(block, tile);
    const std::int32_t rows = product_rows(tile.rows);
    std::uint32_t chunks[kRowsPerThread];  // of x, 16 bytes each
#pragma unroll
    for (int i = 0; i < kRowsPerThread; ++i) {
      const std::int32_t row = tile.row + min(row_0 + 16 * i, tile.rows - 1);
      chunks[i] = static_cast<std::uint32_t>(arguments.x_index[row]) * row_chunks +
                  static_cast<std::uint32_t>(chunk);
    }
    for (std::int32_t step = 0; step < arguments.steps; ++step) {
      barrier_wait(block.empty_at(place.stage), place.parity ^ 1U);
      if (thread == 0) {
        const std::uint32_t full = block.full_at(place.stage);
        barrier_arrive_expect(full, weights.first_bytes + weights.second_bytes);
        weights.copy(step, block.weights_at(place.stage), full, policy);
      }
      const std::uint32_t target = block.rows_at(place.stage) + offset_0;
      const unsigned char* x = arguments.x + step * kStepBytes;
#pragma unroll
      for (int i = 0; i < kRowsPerThread; ++i) {
        if (row_0 + 16 * i < rows) {
          copy_async<16>(
              target + static_cast<std::uint32_t>(i * 16 * kStepBytes),
              x + std::uint64_t{chunks[i]} * 16
          );
        }
      }
      if constexpr (Shape::kFp8) {
        const float* scales = arguments.x_scales + step * arguments.x_scale_stride;
        for (std::int32_t row = thread; row < tile.rows; row += kGroupThreads) {
          copy_async<4>(
              block.scales_at(place.stage) + static_cast<std::uint32_t>(row * 4),
              scales + arguments.x_index[tile.row + row]
          );
        }
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
  for (; waiting > 0; --waiting) {
    land(waiting);
  }
}

}  // namespace pleiad::kernels::cuda::hopper
