#pragma once

#include "kernels/cuda/detail/latent_block.cuh"

// The warpgroups of latent attention that add up weighed values, the left columns the one, the
// right columns the other, and bring the sums where they belong. Device code alone includes this.
namespace pleiad::kernels::cuda::hopper {

struct LatentValues {
  const AttentionArguments& arguments;
  const LatentShared& shared;
  int side;             // 0: left, 1: right
  int warp;             // of the warpgroup
  LatentPhases pages;   // of what is full and weighed
  LatentPhases summed;  // of stretches
  int stretches = 0;    // behind this one
  bool is_real = true;  // this warp has rows of the tile
  bool is_few = false;  // the tile has kLatentFewRows at most

  // A thread's part of the tile.
  RowSums rows;
  float sums[LatentAttention::kSums];
};

// Zeros for this side's values of the tokens from `first` on, which nothing may have been written
// to.
__device__ inline void clear_latents(const LatentValues& self, int parity, int first) {
  using Shape = LatentAttention;
  unsigned char* values =
      self.shared.page(parity) + self.side * static_cast<int>(Shape::kSideBytes);
  const int chunks = (kPage - first) * 8;  // of 16 bytes, in a box
  for (int i = static_cast<int>(threadIdx.x) % Shape::kGroupThreads; i < chunks * Shape::kSideBoxes;
       i += Shape::kGroupThreads) {
    auto* line =
        reinterpret_cast<uint4*>(values + i / chunks * static_cast<int>(kBoxBytes) + first * 128);
    line[i % chunks] = make_uint4(0, 0, 0, 0);
  }
  fence_async_proxy();
  named_sync(kSideMeets + self.side, Shape::kGroupThreads);
}

// Adds a page, of which `known` tokens are in the cache, to the sums.
__device__ inline void add_page(LatentValues& self, int page, bool is_first, int known) {
  using Shape = LatentAttention;
  const int parity = page % 2;
  barrier_wait(self.shared.full(parity, self.side), self.pages.of(parity));
  barrier_wait(self.shared.weighed(parity), self.pages.of(parity));
  self.pages.next(parity);
  if (!is_first && self.is_real) {
    const LatentNotes& notes = self.shared.notes();
    const float factors[2] = {
        notes.factor[parity][latent_row(self.warp, 0)],
        notes.factor[parity][latent_row(self.warp, 1)]};
    rescale(self.sums, factors);
  }
  if (known < kPage) clear_latents(self, parity, known);
  const LatentShared shared = self.shared.anew();
  const Operand weights = along(shared.weights_address(parity));
  const Operand values = across(
      shared.page_address(parity) + static_cast<std::uint32_t>(self.side) * Shape::kSideBytes,
      kBoxBytes
  );
  wgmma_fence();
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    const Operand tokens = values.at(static_cast<std::uint32_t>(k) * 16 * 128);
    value_product<0>(self.sums, weights.at(32 * k), tokens);
    value_product<Shape::kSums / 2>(self.sums, weights.at(32 * k), tokens.at(2 * kBoxBytes));
  }
  wgmma_commit();
  wgmma_wait<0>();
  hold(self.sums);
  __syncwarp();
  if (threadIdx.x % 32 == 0) {
    barrier_arrive(self.shared.empty(parity, self.side));
    barrier_arrive(self.shared.empty(parity, kRopedPart));
  }
}

// A stretch from nothing: its sums, maxima and masses. `known`: tokens of the sequence that are in
// the cache.
__device__ inline void add_stretch(LatentValues& self, const LatentPages& pages, int known) {
#pragma unroll
  for (float& sum : self.sums) {
    sum = 0.0F;
  }
  for (int page = pages.first; page <= pages.last; ++page) {
    add_page(self, page, page == pages.first, known - page * kPage);
  }
  const int parity = self.stretches % 2;
  ++self.stretches;
  barrier_wait(self.shared.summed(parity), self.summed.of(parity));
  self.summed.next(parity);
  const LatentNotes::Stretch& notes = self.shared.notes().stretch[parity];
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int row = latent_row(self.warp, h);
    self.rows.top[h] = notes.top[row];
    self.rows.mass[h] = notes.mass[row];
  }
}

// Where a thread keeps its part of merged stretches: pieces of four, each thread its own.
struct LatentTotals {
  float4* first;
  int step;   // to the next piece
  int group;  // eight pieces on

  [[nodiscard]] __device__ float4& at(int piece) const {
    return first[piece / 8 * group + piece % 8 * step];
  }
};

// In the block's part of the arguments' memory, or in shared memory.
__device__ inline LatentTotals totals_of(const LatentValues& self) {
  using Shape = LatentAttention;
  if (self.is_few) {
    unsigned char* boxes = self.shared.queries() + self.side * static_cast<int>(Shape::kSideBytes);
    auto* lines = reinterpret_cast<float4*>(boxes + kLatentFewRows * kBoxColumns * 2);
    return {.first = lines + threadIdx.x % 32, .step = 32, .group = kBoxBytes / sizeof(float4)};
  }
  const auto block = static_cast<std::int64_t>(blockIdx.x) * 2 + self.side;
  auto* first = reinterpret_cast<float4*>(self.arguments.totals) +
                block * (Shape::kSums / 4) * Shape::kGroupThreads +
                threadIdx.x % Shape::kGroupThreads;
  return {.first = first, .step = Shape::kGroupThreads, .group = 8 * Shape::kGroupThreads};
}

// Merges the stretch into the ones before it, which leaves the total where the stretch was.
__device__ inline void
merge_totals(LatentValues& self, const LatentTotals& totals, const RowSums& total_rows) {
  using Shape = LatentAttention;
  const float scale = self.arguments.scale;
  const Merge merges[2] = {
      Merge(total_rows.top[0], self.rows.top[0], scale),
      Merge(total_rows.top[1], self.rows.top[1], scale)};
#pragma unroll
  for (int i = 0; i < Shape::kSums / 4; ++i) {
    const float4 total = totals.at(i);
    float* sums = self.sums + 4 * i;
    sums[0] = merges[0](total.x, sums[0]);
    sums[1] = merges[0](total.y, sums[1]);
    sums[2] = merges[1](total.z, sums[2]);
    sums[3] = merges[1](total.w, sums[3]);
  }
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    self.rows.mass[h] = merges[h](total_rows.mass[h], self.rows.mass[h]);
    self.rows.top[h] = merges[h].top;
  }
}

__device__ inline void keep_totals(const LatentValues& self, const LatentTotals& totals) {
#pragma unroll
  for (int i = 0; i < LatentAttention::kSums / 4; ++i) {
    const float* sums = self.sums + 4 * i;
    totals.at(i) = make_float4(sums[0], sums[1], sums[2], sums[3]);
  }
}

__device__ inline ValueColumns columns_of(const LatentValues& self) {
  using Shape = LatentAttention;
  return {.first = self.side * Shape::kSideColumns, .width = Shape::kLatent};
}

// Merged sums, or a piece's, to where they belong.
__device__ inline void finish_latents(const LatentValues& self, int turn, const RowSums& rows) {
  using Shape = LatentAttention;
  const ValueColumns columns = columns_of(self);
  const AttentionArguments& arguments = self.arguments;
  const LatentTurn now(arguments, turn);
  const AttentionItem& item = now.item;
  if (item.pieces == 1) {
    store_output(arguments, item, now.tile, self.warp, columns, rows, self.sums);
    return;
  }
  if (item.stretch == 0) {
    store_partial(arguments, item, now.tile, self.warp, 0, columns, rows, self.sums);
  }
  const Handover who{
      .thread = static_cast<int>(threadIdx.x) - Shape::kGroupThreads,
      .threads = Shape::kValueThreads,
      .barrier = kValuesMeet,
      .group = 0,
      .groups = 1,
      .flag = &self.shared.notes().flag};
  if (arguments.team == 0) hand_over(arguments, item, now.tile, now.unit, Shape::kLatent, who);
}

// Sums of a stretch that is not merged here to their slot.
__device__ inline void give_stretch(const LatentValues& self, int turn, int stretch) {
  const ValueColumns columns = columns_of(self);
  const AttentionArguments& arguments = self.arguments;
  const LatentTurn now(arguments, turn);
  const int slot = slot_of(arguments, now.item, stretch);
  store_partial(arguments, now.item, now.tile, self.warp, slot, columns, self.rows, self.sums);
}

// A side's part of a turn; false past the last.
__device__ inline bool add_turn(LatentValues& self, int turn) {
  const AttentionArguments& arguments = self.arguments;
  const LatentTurn now(arguments, turn);
  const AttentionItem& item = now.item;
  const TileRows& tile = now.tile;
  if (item.tokens == 0) return false;
  const LatentPassage passage(arguments, item);
  const bool merges = item.pieces == 1 || item.stretch == 0;
  const int tile_rows = tile.tokens * tile.heads;
  self.is_real = self.warp * 16 < tile_rows;
  self.is_few = tile_rows <= kLatentFewRows;
  const int known = tile.last_position + 1;
  wait_for_earlier_kernels();
  RowSums total_rows;
#pragma unroll
  for (float& sum : self.sums) {
    sum = 0.0F;
  }
  for (int stretch = passage.stretch; stretch < passage.stretches_end; ++stretch) {
    add_stretch(self, passage.pages(stretch), known);
    if (!merges) {
      give_stretch(self, turn, stretch);
    } else if (self.is_real) {
      const LatentTotals totals = totals_of(self);
      if (stretch > 0) merge_totals(self, totals, total_rows);
      if (stretch + 1 < passage.stretches_end) keep_totals(self, totals);
      total_rows = self.rows;
    }
    arrive_warp(self.shared.heard((self.stretches - 1) % 2));
  }
  finish_latents(self, turn, total_rows);
  return true;
}

__device__ inline void
add_values(const AttentionArguments& arguments, const LatentShared& shared, int side, int warp) {
  using Shape = LatentAttention;
  LatentValues self{.arguments = arguments, .shared = shared, .side = side, .warp = warp};
  for (int round = 0; add_turn(self, turn_of(round)); ++round) {
  }
  // Also where this block had no turn.
  wait_for_earlier_kernels();
  if (arguments.team > 0) {
    const int thread = static_cast<int>(threadIdx.x) - Shape::kGroupThreads;
    merge_in_team(arguments, thread, Shape::kValueThreads, Shape::kLatent);
  }
}

}  // namespace pleiad::kernels::cuda::hopper
