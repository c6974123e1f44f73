#pragma once

#include <cstdint>

#include "kernels/cuda/detail/attention_arguments.h"
#include "kernels/cuda/detail/hopper.cuh"

// What the roles of an attention block share: its turns at the work, the pages of a turn, the rows
// of a tile, the ring of stages between who loads and who computes. Device code alone includes
// this.
namespace pleiad::kernels::cuda::hopper {

inline constexpr int kPage = static_cast<int>(kPageTokens);
// The copy engine brings boxes of a page's tokens and 64 columns, 128 bytes a token.
inline constexpr int kBoxColumns = 64;
inline constexpr std::uint32_t kBoxBytes = kPage * kBoxColumns * 2;

// A stage of a ring, and which of its phases comes next.
template <int kStages>
struct StagePlace {
  int stage = 0;
  std::uint32_t parity = 0;

  __device__ void next() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1U;
    }
  }
};

// What a team attends to: a row as a tile of its own, of which this block has a piece, one without
// tokens where there are more blocks than stretches.
__device__ inline AttentionItem team_item(const AttentionArguments& arguments, int& unit) {
  const auto block = static_cast<int>(blockIdx.x);
  const int team = block / arguments.team;
  const int rank = block % arguments.team;
  const int row = team / arguments.plan.units;
  unit = team % arguments.plan.units;
  const int position = arguments.places.positions[row];
  const int stretches = position < 0 ? 0 : stretch_count(arguments.plan.rule, position);
  const int pieces = max(1, min(stretches, arguments.team));
  const int first = stretches * rank / pieces;
  return {
      .row = row,
      .tokens = rank < pieces ? 1 : 0,
      .position = position,
      .stretch = first,
      .stretches = stretches * (rank + 1) / pieces - first,
      .pieces = pieces,
      .tile = row,
      .slot = row * arguments.plan.rule.stretches_max,
      .table = arguments.places.table_of[row]};
}

// The item and unit of turn `index` of all blocks' turns; one without tokens past the last. Reads
// it from memory, which takes less than keeping it in registers.
__device__ inline AttentionItem turn_at(const AttentionArguments& arguments, int index, int& unit) {
  if (arguments.team > 0) {
    return index == static_cast<int>(blockIdx.x) ? team_item(arguments, unit) : AttentionItem{};
  }
  const auto* words =
      reinterpret_cast<const int4*>(arguments.work.items + index / arguments.plan.units);
  const int4 low = words[0];
  const int4 high = words[1];
  const int table = words[2].x;
  unit = index % arguments.plan.units;
  return {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w, table};
}

// The turns of this block: blocks take the list in rounds, there and back, so that the longest and
// the shortest of neighbouring rounds meet.
__device__ inline int turn_of(int round) {
  const auto blocks = static_cast<int>(gridDim.x);
  const auto block = static_cast<int>(blockIdx.x);
  return round * blocks + (round % 2 == 0 ? block : blocks - 1 - block);
}

// Pages that the rows of a piece see: none where last < first.
struct PageRange {
  int first = 0;
  int last = -1;
  int stretch = 1;  // pages of a stretch
};

__device__ inline PageRange
pages_of(const AttentionArguments& arguments, const AttentionItem& item) {
  if (item.position < 0) return {};
  const int length = stretch_pages(arguments.plan.rule, item.position);
  const int before = item.position + 1 - arguments.window;
  const int seen = arguments.window > 0 && before > 0 ? before / kPage : 0;
  return {
      .first = max(item.stretch * length, seen),
      .last =
          min((item.stretch + item.stretches) * length - 1,
              (item.position + item.tokens - 1) / kPage),
      .stretch = length};
}

// The item's pages before this one hold nothing that the step at hand has written.
__device__ inline int
settled_pages(const AttentionArguments& arguments, const AttentionItem& item) {
  const std::int32_t* tables = arguments.places.table_of;
  const bool is_first = item.row == 0 || tables[item.row - 1] != item.table;
  return is_first ? item.position / kPage : 0;
}

// The rows of one tile of an item: row r is of token r / heads of the tile and of head r % heads of
// the unit.
struct TileRows {
  int first_token = 0;  // of the item
  int tokens = 0;       // none where not positive
  int first_position = 0;
  int last_position = 0;
  int heads = 0;
  int first_head = 0;

  __device__
  TileRows(const AttentionArguments& arguments, const AttentionItem& item, int unit, int group)
      : first_token(group * arguments.plan.tile_tokens),
        tokens(min(item.tokens - first_token, arguments.plan.tile_tokens)),
        first_position(item.position + first_token),
        last_position(first_position + tokens - 1),
        heads(arguments.plan.unit_heads),
        first_head(unit * arguments.plan.unit_heads) {}
};

// A part of the tile's queries to shared memory, box after box, as the tensor cores read them;
// zeros in rows there are not. By `kThreads` threads, of which this is number `thread`.
template <int kBoxes, int kThreads>
__device__ void place_queries(
    const AttentionItem& item,
    const TileRows& tile,
    const QueryPart16& part,
    int thread,
    unsigned char* target
) {
  constexpr int kChunks = kBoxes * 8;  // of 16 bytes
  const auto place = [&](int i, const uint4& values) {
    const int row = i / kChunks;
    const int chunk = i % kChunks;
    const int at = chunk / 8 * static_cast<int>(kBoxBytes) + row * 128 + (chunk % 8 ^ row % 8) * 16;
    *reinterpret_cast<uint4*>(target + at) = values;
  };
  const int known = max(tile.tokens, 0) * tile.heads * kChunks;
#pragma unroll 5
  for (int i = thread; i < known; i += kThreads) {
    const int row = i / kChunks;
    const std::uint16_t* source =
        part.data + (item.row + tile.first_token + row / tile.heads) * part.row_stride +
        (tile.first_head + row % tile.heads) * part.head_stride;
    place(i, reinterpret_cast<const uint4*>(source)[i % kChunks]);
  }
  for (int i = known + thread; i < kTileRows * kChunks; i += kThreads) {
    place(i, make_uint4(0, 0, 0, 0));
  }
}

// Asks for `boxes` boxes of a page from `column` on in the second-level cache, where they stay true
// whatever is written to them. Worth it for few rows, whose blocks would else be idle.
__device__ inline void
expect_page(const CUtensorMap* map, std::int32_t column, std::int32_t page, int boxes) {
  for (int box = 0; box < boxes; ++box) {
    asm volatile("cp.async.bulk.prefetch.tensor.3d.L2.global.tile [%0, {%1, %2, %3}];" ::"l"(map),
                 "r"(column + box * kBoxColumns),
                 "r"(0),
                 "r"(page)
                 : "memory");
  }
}

// Where a row's partial sum over one stretch lies, of all of the step's.
__device__ inline std::int64_t partial_of(
    const AttentionArguments& arguments,
    const AttentionItem& item,
    int slot,
    int token,
    int head
) {
  return std::int64_t{item.slot + slot * item.tokens + token} * arguments.heads + head;
}

// The slot of a stretch of a piece that is not the tile's first; that one hands over a single sum.
__device__ inline int
slot_of(const AttentionArguments& arguments, const AttentionItem& item, int stretch) {
  const int last = item.position + item.tokens - 1;
  const int first_piece = stretch_count(arguments.plan.rule, last) / item.pieces;
  return stretch - first_piece + 1;
}

}  // namespace pleiad::kernels::cuda::hopper
