#pragma once

#include <cstdint>

#include "device/cuda/stream.h"
#include "kernels/cuda/grouped_gemm_types.h"

// Products of many experts' weights with the rows routed to them, on a GPU of Hopper's kind
// (sm_90a). The CPU's kernels/gemm.h says the same in plain loops.
namespace pleiad::kernels::cuda {

// The only compute capability (major * 10 + minor) these kernels run on: their instructions are
// Hopper's.
inline constexpr int kGroupedCapability = 90;

// Weights of experts, packed in device memory by pack_grouped_weights(): [experts][outputs / 128]
// [inputs / step][128][128 bytes], where step = grouped_step() inputs make 128 bytes. Each 16 KiB
// block is the image that lands in shared memory: its row m is stored row grouped_stored_row(), the
// 16-byte chunk c of that row stands at chunk c XOR (m mod 8). An expert's bytes are contiguous and
// experts follow each other, so an expert moves as one range.
struct GroupedWeights {
  const void* packed = nullptr;  // 128-byte aligned
  const float* scales =
      nullptr;  // FP8: [experts, outputs / 128, inputs / 128], by stored rows; else null
};

// Packs weights for grouped_gemm().
void pack_grouped_weights(device::cuda::Stream& stream, const PackGroupedTask& task);

// All pointers are to device memory.
struct GroupedGemmTask {
  GroupedShape shape;
  GroupedWeights weights;
  // Activation rows [x_rows, inputs], dense, 16-byte aligned, of BFloat16 or E4M3 values.
  const void* x = nullptr;
  std::int64_t x_rows = 0;
  // FP8: [inputs / 128, x_scale_stride]: for each 128 inputs the rows' scales, in the order of x's
  // rows.
  const float* x_scales = nullptr;
  std::int64_t x_scale_stride = 0;  // at least x_rows
  // With shape.gathered, [rows]: row r of the grouped order reads row x_index[r] of x; else null,
  // and it reads row r.
  const std::int32_t* x_index = nullptr;
  // [experts + 1], ascending from 0: expert e has the rows from starts[e] to before starts[e + 1]
  // of the grouped order. Read on the device; starts[experts] <= shape.rows_max.
  const std::int32_t* starts = nullptr;
  // [rows], in the grouped order, or null: what a row's sums are multiplied by before they are
  // rounded. With BFloat16 outputs alone.
  const float* row_weights = nullptr;
  void* out = nullptr;  // [rows, outputs] (SwiGlu: outputs / 2), dense, 16-byte aligned
  // Whether the kernel may start while the one before it on the stream drains; it waits for that
  // one's end by itself before it reads anything.
  bool overlap_launch = false;
  // With overlap_launch: whether `starts` was complete before the kernel before this one began, as
  // it is for the second product of an expert layer. Then the first weights are fetched while that
  // kernel still runs.
  bool starts_settled = false;
};

// out[r, o] = sum over i of x[r, i] * W[e(r), o, i] for every row r below starts[experts]; other
// rows of out stay as they are. Weights of experts without rows are not read.
//
// Each sum is one chain over i in ascending order, accumulated in float, in steps of 16 products
// (FP8: of 32, each 128 inputs from zero, then multiplied by both scales and added in float), so a
// row's bits depend on that row and its expert's weights alone: not on the number of rows, its
// place among them, the tile or the GPU's other work (DESIGN R1). SwiGlu is silu(gate) * up of the
// float sums, rounded once.
//
// One launch, which a graph may capture: the pointers and sizes are fixed then, the row counts are
// read anew each time. REQUIRES: grouped_supports(), and a GPU of capability kGroupedCapability.
void grouped_gemm(device::cuda::Stream& stream, const GroupedGemmTask& task);

// The same with a given tile. REQUIRES: grouped_tile_fits().
void grouped_gemm(
    device::cuda::Stream& stream,
    const GroupedGemmTask& task,
    const GroupedTile& tile
);

}  // namespace pleiad::kernels::cuda
