#pragma once

#include <cstdint>

#include "kernels/cuda/detail/attention_output.cuh"
#include "kernels/cuda/detail/wgmma_attention.cuh"

// Attention with kDim elements a head on Hopper's tensor cores. Device code alone includes this.
//
// One warp loads: for each pair of neighbouring pages that a tile sees, the head's keys, then its
// values, each a stage of the ring. One or two warpgroups compute, a tile of 64 rows each (the
// heads of one unit times neighbouring tokens): scores = queries x keys, both in shared memory;
// softmax in registers; sums += weights (registers) x values. Two warpgroups share the pages, and
// the softmax of one runs under the products of the other.
//
// Bytes: a tile reads 4 kDim bytes a token and does 256 kDim operations with it; two tiles of a
// block do 128 operations a byte of the second-level cache. A tile of one decoded token is bound by
// memory.
//
// Bits: a row's scores are one chain of tensor steps over the elements; its sums over the tokens of
// a pair of pages another one, stretch by stretch from zero. Neither knows the row's place in the
// tile. Pages of a pair that a row does not see are left out or weigh nothing, which is the same.
namespace pleiad::kernels::cuda::hopper {

template <int kDimension, int kGroupCount, int kStageCount>
struct GroupedAttention {
  static constexpr int kDim = kDimension;
  static constexpr int kGroups = kGroupCount;
  static constexpr int kStages = kStageCount;
  static constexpr int kThreads = 128 * (kGroups + 1);
  static constexpr int kBlocks = kGroups == 1 ? 2 : 1;  // of a multiprocessor
  static constexpr int kBoxes = kDim / kBoxColumns;
  static constexpr std::uint32_t kPageBytes = kBoxes * kBoxBytes;
  static constexpr std::uint32_t kStageBytes = 2 * kPageBytes;
  static constexpr std::uint32_t kQueryBytes = kPageBytes;  // of a tile's 64 rows
  static constexpr int kFeederRegisters = 24;
  static constexpr int kComputeRegisters = kGroups == 1 ? 232 : 240;
  // Behind the stages: queries of each warpgroup, two barriers a stage, a flag for each warpgroup.
  static constexpr std::uint32_t kQueriesAt = kStages * kStageBytes;
  static constexpr std::uint32_t kBarriersAt = kQueriesAt + kGroups * kQueryBytes;
  static constexpr std::uint32_t kFlagsAt = kBarriersAt + kStages * 16;
  static constexpr int kSharedBytes = static_cast<int>(kFlagsAt) + kGroups * 4;
};

// A block's view of its shared memory.
template <class Shape>
struct AttentionRing {
  unsigned char* stages;

  [[nodiscard]] __device__ std::uint32_t stage_at(int stage) const {
    return shared_address(stages) + static_cast<std::uint32_t>(stage) * Shape::kStageBytes;
  }
  [[nodiscard]] __device__ std::uint32_t full_at(int stage) const {
    return shared_address(stages) + Shape::kBarriersAt + static_cast<std::uint32_t>(stage) * 16;
  }
  [[nodiscard]] __device__ std::uint32_t empty_at(int stage) const { return full_at(stage) + 8; }
  [[nodiscard]] __device__ std::int32_t* flag_of(int group) const {
    return reinterpret_cast<std::int32_t*>(stages + Shape::kFlagsAt) + group;
  }

  [[nodiscard]] __device__ unsigned char* queries_of(int group) const {
    return stages + Shape::kQueriesAt + group * static_cast<int>(Shape::kQueryBytes);
  }

  // Called by all threads.
  __device__ void open() const {
    if (threadIdx.x == 0) {
      for (int stage = 0; stage < Shape::kStages; ++stage) {
        barrier_init(full_at(stage), 1);
        barrier_init(empty_at(stage), Shape::kGroups * 4);
      }
      barrier_init_fence();
    }
    __syncthreads();
  }
};

// Which pages of a pair there are.
struct PagePair {
  int index[2] = {};  // in the cache
  bool is_there[2] = {};
};

// One warp's work: page indices 32 at a time, the copies by its first lane.
template <class Shape>
__device__ void feed_pages(
    const AttentionArguments& arguments,
    const CUtensorMap* map,
    const AttentionRing<Shape>& ring
) {
  const int lane = static_cast<int>(threadIdx.x);
  StagePlace<Shape::kStages> place;
  bool has_waited = false;
  // Boxes of both pages lie `box_step` apart, the second page's `page_step` behind the first one's.
  const auto load =
      [&](int column, const PagePair& pair, std::uint32_t box_step, std::uint32_t page_step) {
        barrier_wait(ring.empty_at(place.stage), place.parity ^ 1U);
        const std::uint32_t full = ring.full_at(place.stage);
        const bool both = pair.is_there[0] && pair.is_there[1];
        barrier_arrive_expect(full, both ? 2 * Shape::kPageBytes : Shape::kPageBytes);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          if (!pair.is_there[half]) continue;
#pragma unroll
          for (int box = 0; box < Shape::kBoxes; ++box) {
            const std::uint32_t target = ring.stage_at(place.stage) +
                                         static_cast<std::uint32_t>(box) * box_step +
                                         static_cast<std::uint32_t>(half) * page_step;
            copy_page_box(target, map, column + box * kBoxColumns, pair.index[half], full);
          }
        }
        place.next();
      };
  for (int round = 0;; ++round) {
    int unit = 0;
    const AttentionItem item = turn_at(arguments, turn_of(round), unit);
    if (item.tokens == 0) return;
    const PageRange range = pages_of(arguments, item);
    if (range.last < range.first) continue;
    const int settled = settled_pages(arguments, item);
    const std::uint32_t* table = arguments.places.tables + item.table;
    const int head = unit * Shape::kDim;
    std::uint32_t pages = 0;
    const int first = range.first / 2;
    for (int pair = first; pair <= range.last / 2; ++pair) {
      const int ahead = (pair - first) % 16 * 2;
      if (ahead == 0) pages = table[min(max(2 * pair + lane, range.first), range.last)];
      PagePair next;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        next.index[half] = static_cast<int>(__shfl_sync(0xFFFFFFFFU, pages, ahead + half));
        next.is_there[half] = 2 * pair + half >= range.first && 2 * pair + half <= range.last;
      }
      if (2 * pair + 1 >= settled && !has_waited) {
        const int index = lane == 0 ? next.index[0] : next.index[1];
        const bool is_mine = lane == 0 ? next.is_there[0] : lane == 1 && next.is_there[1];
        if (arguments.team > 0 && is_mine) {
          expect_page(map, arguments.key_column + head, index, Shape::kBoxes);
          expect_page(map, arguments.value_column + head, index, Shape::kBoxes);
        }
        wait_for_earlier_kernels();
        has_waited = true;
      }
      if (lane != 0) continue;
      load(arguments.key_column + head, next, 2 * kBoxBytes, kBoxBytes);
      load(arguments.value_column + head, next, kBoxBytes, Shape::kPageBytes);
    }
  }
}

// What a warpgroup works with while it attends.
template <class Shape>
struct Computing {
  const AttentionArguments& arguments;
  const AttentionRing<Shape>& ring;
  int group;
  int warp;  // of the group
  StagePlace<Shape::kStages> place;

  __device__ std::uint32_t wait() const {
    barrier_wait(ring.full_at(place.stage), place.parity);
    return uniform(ring.stage_at(place.stage));
  }
  // This warp is done with the stage.
  __device__ void release() {
    __syncwarp();
    if (threadIdx.x % 32 == 0) barrier_arrive(ring.empty_at(place.stage));
    place.next();
  }
};

// Zeros for the values of a pair's tokens from `first` to the end of its page, which nothing may
// have been written to.
template <class Shape>
__device__ void clear_values(const Computing<Shape>& self, int first) {
  unsigned char* page = self.ring.stages + self.place.stage * static_cast<int>(Shape::kStageBytes) +
                        first / kPage * static_cast<int>(Shape::kPageBytes);
  const int line = first % kPage;
  for (int i = static_cast<int>(threadIdx.x) % 128; i < kPage * 8 * Shape::kBoxes; i += 128) {
    if (i / 8 % kPage < line) continue;
    reinterpret_cast<uint4*>(page)[i] = make_uint4(0, 0, 0, 0);
  }
  fence_async_proxy();
  named_sync(1 + self.group, 128);
}

// A thread's part of a tile while its pages pass.
template <int kDim>
struct TileSums {
  Sight sight[2];
  RowSums rows;
  float sums[kDim / 2];
};

// Two neighbouring pages, of which a tile may see one.
struct PairView {
  int first_token = 0;  // of the pair
  bool hides = false;   // some row does not see all of it
  bool sees[2] = {};    // either page
  int known = 0;        // tokens from the first on that are in the cache
};

// Scores, weights, sums of a pair of pages.
template <class Shape>
__device__ void
attend_pair(Computing<Shape>& self, const PairView& view, TileSums<Shape::kDim>& tile) {
  float scores[64];
  const Operand keys = along(self.wait());
  const Operand queries = along(uniform(shared_address(self.ring.queries_of(self.group))));
  wgmma_fence();
#pragma unroll
  for (int k = 0; k < Shape::kDim / 16; ++k) {
    const std::uint32_t box = static_cast<std::uint32_t>(k) / 4 * kBoxBytes;
    const std::uint32_t step = static_cast<std::uint32_t>(k % 4 * 32);
    score_product(scores, queries.at(box + step), keys.at(2 * box + step), k > 0 ? 1U : 0U);
  }
  wgmma_commit();
  wgmma_wait<0>();
  hold(scores);
  self.release();
  if (view.hides) hide(scores, view.first_token, tile.sight);
  float factors[2];
  weigh(scores, self.arguments.scale, tile.rows, factors);
  std::uint32_t weights[8][4];
  pack_weights(scores, weights);
  rescale(tile.sums, factors);
  const std::uint32_t values = self.wait();
  if (view.known < 2 * kPage && view.known % kPage != 0) clear_values(self, view.known);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    if (!view.sees[half]) continue;
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const std::uint32_t tokens = static_cast<std::uint32_t>(k) * 16 * 128;
      const std::uint32_t page = static_cast<std::uint32_t>(half) * Shape::kPageBytes;
      value_product(tile.sums, weights[4 * half + k], across(values, kBoxBytes).at(page + tokens));
    }
    wgmma_commit();
  }
  wgmma_wait<0>();
  hold(tile.sums);
  self.release();
}

// Merged sums, or a piece's, to where they belong.
template <class Shape>
__device__ void finish_turn(
    const Computing<Shape>& self,
    int turn,
    const RowSums& rows,
    const float (&sums)[Shape::kDim / 2]
) {
  constexpr ValueColumns kColumns{.first = 0, .width = Shape::kDim};
  const AttentionArguments& arguments = self.arguments;
  int unit = 0;
  const AttentionItem item = turn_at(arguments, turn, unit);
  const TileRows tile(arguments, item, unit, self.group);
  if (item.pieces == 1) {
    store_output(arguments, item, tile, self.warp, kColumns, rows, sums);
    return;
  }
  if (item.stretch == 0) store_partial(arguments, item, tile, self.warp, 0, kColumns, rows, sums);
  const Handover who{
      .thread = static_cast<int>(threadIdx.x) % 128,
      .threads = 128,
      .barrier = 1 + self.group,
      .group = self.group,
      .groups = Shape::kGroups,
      .flag = self.ring.flag_of(self.group)};
  if (arguments.team == 0) hand_over(arguments, item, tile, unit, Shape::kDim, who);
}

// Sums of a stretch that is not merged here to their slot.
template <class Shape>
__device__ void give_stretch(
    const Computing<Shape>& self,
    int turn,
    int stretch,
    const TileSums<Shape::kDim>& tile
) {
  constexpr ValueColumns kColumns{.first = 0, .width = Shape::kDim};
  const AttentionArguments& arguments = self.arguments;
  int unit = 0;
  const AttentionItem item = turn_at(arguments, turn, unit);
  const TileRows rows(arguments, item, unit, self.group);
  const int slot = slot_of(arguments, item, stretch);
  store_partial(arguments, item, rows, self.warp, slot, kColumns, tile.rows, tile.sums);
}

// What a warpgroup must know of its turn while pages pass.
struct Passage {
  PageRange range;
  int stretch = 0;  // first, and one past the last
  int stretches_end = 0;
  bool merges = true;      // the stretches, or hands each over
  int last_page = -1;      // that this warpgroup's rows see
  int first_position = 0;  // of its rows
  int hidden_before = 0;   // pages with tokens before this one some row does not see
  int last_token = 0;      // of the tile
  bool is_over = false;    // no turn is left
};

template <class Shape>
__device__ Passage begin_turn(const Computing<Shape>& self, int turn, TileSums<Shape::kDim>& tile) {
  const AttentionArguments& arguments = self.arguments;
  int unit = 0;
  const AttentionItem item = turn_at(arguments, turn, unit);
  if (item.tokens == 0) return {.range = {}, .is_over = true};
  const TileRows rows(arguments, item, unit, self.group);
  const PageRange range = pages_of(arguments, item);
  wait_for_earlier_kernels();
  place_queries<Shape::kBoxes, 128>(
      item,
      rows,
      arguments.query[0],
      static_cast<int>(threadIdx.x) % 128,
      self.ring.queries_of(self.group)
  );
  fence_async_proxy();
  named_sync(1 + self.group, 128);
  const int window = arguments.window > 0 ? arguments.window : 1 << 30;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const TileRow row(rows, self.warp, h);
    const int position = min(rows.first_position + row.token, rows.last_position);
    tile.sight[h] = {.first = position - window + 1, .last = position};
  }
  return {
      .range = range,
      .stretch = item.stretch,
      .stretches_end = item.stretch + item.stretches,
      .merges = item.pieces == 1 || item.stretch == 0,
      .last_page = rows.tokens > 0 ? min(range.last, rows.last_position / kPage) : -1,
      .first_position = rows.first_position,
      .hidden_before = rows.last_position - window + 1,
      .last_token = item.position + item.tokens - 1};
}

// A warpgroup's tile of an item; false past the last.
template <class Shape>
__device__ bool attend_turn(Computing<Shape>& self, int turn) {
  TileSums<Shape::kDim> tile;
  const Passage passage = begin_turn(self, turn, tile);
  if (passage.is_over) return false;
  RowSums total_rows;
  float totals[Shape::kDim / 2] = {};
  for (int stretch = passage.stretch; stretch < passage.stretches_end; ++stretch) {
    tile.rows = RowSums{};
#pragma unroll
    for (float& sum : tile.sums) {
      sum = 0.0F;
    }
    const int first = max(stretch * passage.range.stretch, passage.range.first);
    const int last = min((stretch + 1) * passage.range.stretch - 1, passage.last_page);
    for (int pair = first / 2; pair <= last / 2 && first <= last; ++pair) {
      const int token = pair * 2 * kPage;
      attend_pair(
          self,
          {.first_token = token,
           .hides = token + 2 * kPage - 1 > passage.first_position || token < passage.hidden_before,
           .sees = {2 * pair >= first, 2 * pair + 1 <= last},
           .known = passage.last_token + 1 - token},
          tile
      );
    }
    gather_masses(tile.rows);
    if (passage.merges) {
      merge_stretch(tile.rows, tile.sums, self.arguments.scale, total_rows, totals);
    } else {
      give_stretch(self, turn, stretch, tile);
    }
  }
  // Pairs that only the other warpgroup's rows see.
  const int seen =
      passage.last_page < passage.range.first ? passage.range.first / 2 : passage.last_page / 2 + 1;
  for (int pair = seen; pair <= passage.range.last / 2 && passage.range.first <= passage.range.last;
       ++pair) {
    for (int stage = 0; stage < 2; ++stage) {
      self.wait();
      self.release();
    }
  }
  finish_turn(self, turn, total_rows, totals);
  return true;
}

template <class Shape>
__global__ void __launch_bounds__(Shape::kThreads, Shape::kBlocks) grouped_attention_kernel(
    const __grid_constant__ AttentionArguments arguments,
    const __grid_constant__ CUtensorMap map
) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) unsigned char shared[];
  const AttentionRing<Shape> ring{shared};
  let_next_kernel_start();
  ring.open();
  const int warp = __shfl_sync(0xFFFFFFFFU, static_cast<int>(threadIdx.x) / 32, 0);
  if (warp < 4) {
    registers_give<Shape::kFeederRegisters>();
    if (warp == 0) feed_pages<Shape>(arguments, &map, ring);
  } else {
    registers_take<Shape::kComputeRegisters>();
    Computing<Shape> self{
        .arguments = arguments, .ring = ring, .group = warp / 4 - 1, .warp = warp % 4, .place = {}};
    for (int round = 0; attend_turn(self, turn_of(round)); ++round) {
    }
    // Also where this block had no turn.
    wait_for_earlier_kernels();
    if (arguments.team > 0) {
      merge_in_team(
          arguments, static_cast<int>(threadIdx.x) - 128, 128 * Shape::kGroups, Shape::kDim
      );
    }
  }
#else
  __trap();  // built for GPUs without Hopper's instructions
#endif
}

}  // namespace pleiad::kernels::cuda::hopper
