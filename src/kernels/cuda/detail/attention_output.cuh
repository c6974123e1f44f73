#pragma once

#include <cstdint>

#include "kernels/cuda/detail/attention_softmax.cuh"

// Where sums go: to the output, or to the partial sums of a tile's pieces, which the piece that is
// done last merges in order. Device code alone includes this.
namespace pleiad::kernels::cuda::hopper {

// A thread's row h of a tile.
struct TileRow {
  int token = 0;  // of the tile
  int head = 0;   // of all heads
  bool is_real = false;

  __device__ TileRow(const TileRows& tile, int warp, int h) {
    const int row = warp * 16 + static_cast<int>(threadIdx.x) % 32 / 4 + 8 * h;
    token = row / tile.heads;
    head = tile.first_head + row % tile.heads;
    is_real = token < tile.tokens;
  }
};

// Columns of the values whose sums a warpgroup holds: [first, first + 2 * kSums) of `width`.
struct ValueColumns {
  int first = 0;
  int width = 0;
};

__device__ inline std::uint16_t* output_of(
    const AttentionArguments& arguments,
    const AttentionItem& item,
    int token,
    int head,
    int width
) {
  return arguments.out + (item.row + token) * arguments.out_stride + std::int64_t{head} * width;
}

// Merged sums of whole rows to the output.
template <int kSums>
__device__ void store_output(
    const AttentionArguments& arguments,
    const AttentionItem& item,
    const TileRows& tile,
    int warp,
    const ValueColumns& columns,
    const RowSums& rows,
    const float (&sums)[kSums]
) {
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const TileRow row(tile, warp, h);
    if (!row.is_real) continue;
    const float factor =
        item.position < 0 ? 0.0F : output_factor(arguments, row.head, rows.top[h], rows.mass[h]);
    auto* out = reinterpret_cast<std::uint32_t*>(
        output_of(arguments, item, tile.first_token + row.token, row.head, columns.width) +
        columns.first
    );
#pragma unroll
    for (int j = 0; j < kSums / 4; ++j) {
      const float low = output_value(sums[4 * j + 2 * h], factor);
      const float high = output_value(sums[4 * j + 2 * h + 1], factor);
      out[4 * j + static_cast<int>(threadIdx.x) % 4] = pack(low, high);
    }
  }
}

// Sums of a stretch to their slot; of rows that see nothing of it only that.
template <int kSums>
__device__ void store_partial(
    const AttentionArguments& arguments,
    const AttentionItem& item,
    const TileRows& tile,
    int warp,
    int slot,
    const ValueColumns& columns,
    const RowSums& rows,
    const float (&sums)[kSums]
) {
  const int lane = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const TileRow row(tile, warp, h);
    if (!row.is_real) continue;
    const std::int64_t index =
        partial_of(arguments, item, slot, tile.first_token + row.token, row.head);
    if (lane == 0 && columns.first == 0) {
      reinterpret_cast<float2*>(arguments.stats)[index] = make_float2(rows.top[h], rows.mass[h]);
    }
    if (rows.top[h] == kNever) continue;
    auto* out =
        reinterpret_cast<float2*>(arguments.partials + index * columns.width + columns.first);
#pragma unroll
    for (int j = 0; j < kSums / 4; ++j) {
      out[4 * j + lane] = make_float2(sums[4 * j + 2 * h], sums[4 * j + 2 * h + 1]);
    }
  }
}

// Four columns of a row over the slots of its tile, in order.
__device__ inline void merge_slots(
    const AttentionArguments& arguments,
    const AttentionItem& item,
    int token,
    int head,
    int slots,
    int column,
    int width
) {
  constexpr int kTogether = 8;
  float4 total = make_float4(0.0F, 0.0F, 0.0F, 0.0F);
  float top = kNever;
  float mass = 0.0F;
  for (int first = 0; first < slots; first += kTogether) {
    float2 stats[kTogether];
    float4 sums[kTogether];
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      stats[i] = make_float2(kNever, 0.0F);
      sums[i] = total;
      if (first + i >= slots) continue;
      const std::int64_t index = partial_of(arguments, item, first + i, token, head);
      stats[i] = __ldcg(reinterpret_cast<const float2*>(arguments.stats) + index);
      sums[i] =
          __ldcg(reinterpret_cast<const float4*>(arguments.partials + index * width + column));
    }
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      if (stats[i].x == kNever) continue;
      const Merge merge(top, stats[i].x, arguments.scale);
      total.x = merge(total.x, sums[i].x);
      total.y = merge(total.y, sums[i].y);
      total.z = merge(total.z, sums[i].z);
      total.w = merge(total.w, sums[i].w);
      mass = merge(mass, stats[i].y);
      top = merge.top;
    }
  }
  const float factor = output_factor(arguments, head, top, mass);
  auto* out = output_of(arguments, item, token, head, width) + column;
  *reinterpret_cast<uint2*>(out) = make_uint2(
      pack(output_value(total.x, factor), output_value(total.y, factor)),
      pack(output_value(total.z, factor), output_value(total.w, factor))
  );
}

// Who hands over partial sums of a tile together: `threads` threads of the block from `thread` on,
// which meet at named barrier `barrier`; `flag` is theirs, in shared memory.
struct Handover {
  int thread = 0;
  int threads = 0;
  int barrier = 0;
  int group = 0;
  int groups = 1;
  std::int32_t* flag = nullptr;
};

// Says that this piece's partial sums are stored; the last piece of the tile to say so merges them.
__device__ inline void hand_over(
    const AttentionArguments& arguments,
    const AttentionItem& item,
    const TileRows& tile,
    int unit,
    int width,
    const Handover& who
) {
  named_sync(who.barrier, who.threads);
  if (who.thread == 0) {
    __threadfence();
    const int counter = (item.tile * arguments.plan.units + unit) * who.groups + who.group;
    const int before = atomicAdd(arguments.work.arrivals + counter, 1);
    const bool is_last = before == item.pieces - 1;
    if (is_last) arguments.work.arrivals[counter] = 0;
    *who.flag = is_last ? 1 : 0;
    __threadfence();
  }
  named_sync(who.barrier, who.threads);
  if (*who.flag == 0) return;
  const int stretches = stretch_count(arguments.plan.rule, item.position + item.tokens - 1);
  const int slots = stretches - stretches / item.pieces + 1;
  const int parts = width / 4;
  for (int i = who.thread; i < tile.tokens * tile.heads * parts; i += who.threads) {
    const int row = i / parts;
    merge_slots(
        arguments,
        item,
        tile.first_token + row / tile.heads,
        tile.first_head + row % tile.heads,
        slots,
        i % parts * 4,
        width
    );
  }
}

// The blocks of a team, once each has stored what it summed up, merge a row's stretches together.
// Called by all threads that attend, `threads` of each block, of which this is number `thread`.
__device__ inline void
merge_in_team(const AttentionArguments& arguments, int thread, int threads, int width) {
  int unit = 0;
  AttentionItem item = team_item(arguments, unit);
  if (item.pieces == 1) return;
  item.tokens = 1;
  cluster_sync();
  const int stretches = stretch_count(arguments.plan.rule, item.position);
  const int slots = stretches - stretches / item.pieces + 1;
  const int heads = arguments.plan.unit_heads;
  const int parts = width / 4;
  const auto rank = static_cast<int>(blockIdx.x) % arguments.team;
  for (int i = rank * threads + thread; i < heads * parts; i += arguments.team * threads) {
    const int head = unit * heads + i / parts;
    merge_slots(arguments, item, 0, head, slots, i % parts * 4, width);
  }
}

}  // namespace pleiad::kernels::cuda::hopper
