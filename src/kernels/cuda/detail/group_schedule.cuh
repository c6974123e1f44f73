#pragma once

#include <cstdint>

#include "kernels/cuda/grouped_gemm_types.h"

// Which tile of a grouped product a block computes when, from the experts' row counts in device
// memory. Device code alone includes this.
namespace pleiad::kernels::cuda::hopper {

// A product tile: all of K, 128 weight rows per block of the cluster, and some rows of one expert.
struct GroupTile {
  std::int32_t expert = 0;
  std::int32_t row = 0;   // first, in the grouped order
  std::int32_t rows = 0;  // 1..the tile's most
  std::int32_t unit = 0;  // which 128 (cluster of two: 256) weight rows
};

// In shared memory: where each expert's row tiles begin.
struct GroupSchedule {
  std::int32_t row_tiles[kGroupedExpertsMax + 1];
};

// Fills `schedule` with tiles of `rows_max` rows. Called by all threads of the block together.
__device__ inline void read_schedule(
    GroupSchedule& schedule,
    const std::int32_t* starts,
    std::int32_t experts,
    std::int32_t rows_max
) {
  for (std::int32_t i = static_cast<std::int32_t>(threadIdx.x); i < experts;
       i += static_cast<std::int32_t>(blockDim.x)) {
    schedule.row_tiles[i] = (starts[i + 1] - starts[i] + rows_max - 1) / rows_max;
  }
  __syncthreads();
  if (threadIdx.x < 32) {
    const std::int32_t lane = static_cast<std::int32_t>(threadIdx.x);
    const std::int32_t share = (experts + 31) / 32;
    const std::int32_t begin = min(lane * share, experts);
    const std::int32_t end = min(begin + share, experts);
    std::int32_t sum = 0;
    for (std::int32_t expert = begin; expert < end; ++expert) {
      sum += schedule.row_tiles[expert];
    }
    std::int32_t before = sum;
    for (int step = 1; step < 32; step *= 2) {
      const std::int32_t other = __shfl_up_sync(0xFFFFFFFFU, before, static_cast<unsigned>(step));
      if (lane >= step) before += other;
    }
    before -= sum;
    for (std::int32_t expert = begin; expert < end; ++expert) {
      const std::int32_t tiles = schedule.row_tiles[expert];
      schedule.row_tiles[expert] = before;
      before += tiles;
    }
    if (lane == 31) schedule.row_tiles[experts] = before;
  }
  __syncthreads();
}

// How an expert's work falls into tiles.
struct TileCuts {
  std::int32_t rows_max = 0;     // activation rows of a tile
  std::int32_t units = 0;        // tiles of weight rows
  std::int32_t group_units = 1;  // of them that run with all activation rows before others do
};

// The tile of number `index`; false past the last. Tiles that run at the same time share rows and
// weights: all row tiles of an expert with a group of weight rows, then the next group.
__device__ inline bool tile_at(
    const GroupSchedule& schedule,
    const std::int32_t* starts,
    std::int32_t experts,
    const TileCuts& cuts,
    std::int32_t index,
    GroupTile& tile
) {
  const std::int32_t row_tile = index / cuts.units;
  if (row_tile >= schedule.row_tiles[experts]) return false;
  std::int32_t low = 0;
  std::int32_t high = experts;
  while (high - low > 1) {
    const std::int32_t middle = (low + high) / 2;
    if (schedule.row_tiles[middle] <= row_tile) {
      low = middle;
    } else {
      high = middle;
    }
  }
  const std::int32_t tiles = schedule.row_tiles[low + 1] - schedule.row_tiles[low];
  const std::int32_t local = index - schedule.row_tiles[low] * cuts.units;
  const std::int32_t group = local / (tiles * cuts.group_units);
  const std::int32_t rest = local - group * tiles * cuts.group_units;
  const std::int32_t width = min(cuts.group_units, cuts.units - group * cuts.group_units);
  const std::int32_t row = rest / width * cuts.rows_max;
  tile.expert = low;
  tile.unit = group * cuts.group_units + rest % width;
  tile.row = starts[low] + row;
  tile.rows = min(cuts.rows_max, starts[low + 1] - tile.row);
  return true;
}

// The rows that the products of a tile of `rows` rows take: the next of 8, 16, 32, 64, 128, 192,
// 256.
__device__ inline std::int32_t product_rows(std::int32_t rows) {
  if (rows <= 8) return 8;
  if (rows <= 16) return 16;
  if (rows <= 32) return 32;
  return rows <= 64 ? 64 : (rows + 63) / 64 * 64;
}

}  // namespace pleiad::kernels::cuda::hopper
