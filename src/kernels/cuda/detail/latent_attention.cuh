#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/detail/attention_output.cuh"
#include "kernels/cuda/detail/wgmma_attention.cuh"

// Latent attention (512 elements, 64 roped ones behind them) on Hopper's tensor cores. Device code
// alone includes this.
//
// A block has a tile of 64 rows, heads times neighbouring tokens. One warp loads pages of 64 x 576
// into two stages. Two warpgroups compute, a side each: a side keeps the sums of 256 of the 512
// columns, and makes the weights of every second page, the left of the even ones, which it hands to
// the other side through shared memory. So the softmax of one side runs under the products of the
// other (the schedule of FlashMLA, github.com/deepseek-ai/FlashMLA, with one page's weights at a
// time instead of two).
//
// Bytes: 1152 a token, 139264 operations with it for 64 rows: two tiles with the same pages, as of
// 128 heads, do 242 operations a byte, near where memory and tensor cores are one roof.
//
// Bits: as in grouped_attention.cuh. Columns and parity of the page, which follow from the
// position, say whether weights come from registers or shared memory and which side sums up their
// mass.
namespace pleiad::kernels::cuda::hopper {

struct LatentAttention {
  static constexpr int kLatent = 512;
  static constexpr int kThreads = 384;
  static constexpr int kComputeThreads = 256;
  static constexpr int kLatentBoxes = kLatent / kBoxColumns;
  static constexpr int kSideBoxes = kLatentBoxes / 2;
  static constexpr int kSideColumns = kLatent / 2;
  static constexpr int kSums = kSideColumns / 2;
  static constexpr int kFeederRegisters = 24;
  static constexpr int kComputeRegisters = 240;
  // The left half of a page, and the right half with the roped columns.
  static constexpr std::uint32_t kLeftBytes = kSideBoxes * kBoxBytes;
  static constexpr std::uint32_t kRightBytes = (kSideBoxes + 1) * kBoxBytes;
  static constexpr std::uint32_t kPageBytes = kLeftBytes + kRightBytes;
  static constexpr std::uint32_t kQueryBytes = (kLatentBoxes + 1) * kBoxBytes;
};

// What the sides tell each other, of every row.
struct LatentNotes {
  float top[kTileRows];        // largest score of the stretch so far
  float factor[2][kTileRows];  // of the last even and odd page
  float mass[2][kTileRows];    // of a stretch's even and odd pages
  std::uint64_t full[2][2];    // barriers of page parity and side
  std::uint64_t empty[2][2];
  std::int32_t flag;
};

// A block's shared memory: two pages, queries, weights of a page, notes.
struct LatentShared {
  unsigned char* base;
  std::uint32_t address;  // of base, in the shared window

  static constexpr int kBytes =
      static_cast<int>(2 * LatentAttention::kPageBytes + LatentAttention::kQueryBytes + kBoxBytes) +
      static_cast<int>(sizeof(LatentNotes));

  // The same, its address uniform over the warp. What follows from it is not computed ahead and
  // held in registers, which are few.
  [[nodiscard]] __device__ LatentShared anew() const { return {base, uniform(address)}; }
  [[nodiscard]] __device__ unsigned char* page(int parity) const {
    return base + parity * static_cast<int>(LatentAttention::kPageBytes);
  }
  [[nodiscard]] __device__ unsigned char* queries() const { return page(2); }
  [[nodiscard]] __device__ std::uint32_t page_address(int parity) const {
    return address + static_cast<std::uint32_t>(parity) * LatentAttention::kPageBytes;
  }
  [[nodiscard]] __device__ std::uint32_t queries_address() const { return page_address(2); }
  [[nodiscard]] __device__ std::uint32_t weights_address() const {
    return queries_address() + LatentAttention::kQueryBytes;
  }
  // Of the page that both sides add up at the time.
  [[nodiscard]] __device__ unsigned char* weights() const {
    return queries() + LatentAttention::kQueryBytes;
  }
  [[nodiscard]] __device__ LatentNotes& notes() const {
    return *reinterpret_cast<LatentNotes*>(weights() + kBoxBytes);
  }
  [[nodiscard]] __device__ std::uint32_t full(int parity, int side) const {
    return weights_address() + kBoxBytes + static_cast<std::uint32_t>(offsetof(LatentNotes, full)) +
           static_cast<std::uint32_t>(16 * parity + 8 * side);
  }
  [[nodiscard]] __device__ std::uint32_t empty(int parity, int side) const {
    return weights_address() + kBoxBytes +
           static_cast<std::uint32_t>(offsetof(LatentNotes, empty)) +
           static_cast<std::uint32_t>(16 * parity + 8 * side);
  }

  // Called by all threads.
  __device__ void open() const {
    if (threadIdx.x == 0) {
      for (int i = 0; i < 4; ++i) {
        barrier_init(full(i / 2, i % 2), 1);
        barrier_init(empty(i / 2, i % 2), 4);
      }
      barrier_init_fence();
    }
    __syncthreads();
  }
};

// Which phase of the stages of either parity comes next.
struct LatentPhases {
  std::uint32_t bits = 0;

  [[nodiscard]] __device__ std::uint32_t of(int parity) const { return bits >> parity & 1U; }
  __device__ void next(int parity) { bits ^= 1U << parity; }
};

// Named barriers.
inline constexpr int kWeightsReady = 1;  // and 2: of the even and the odd page
inline constexpr int kSidesMeet = 3;
inline constexpr int kSideAlone = 4;  // and 5

// One warp's work: page indices 32 at a time, the copies by its first lane.
__device__ inline void feed_latents(
    const AttentionArguments& arguments,
    const CUtensorMap* map,
    const LatentShared& shared
) {
  using Shape = LatentAttention;
  const int lane = static_cast<int>(threadIdx.x);
  LatentPhases phases;
  bool has_waited = false;
  const auto load = [&](int page, int index) {
    const int parity = page % 2;
    const std::uint32_t target = shared.page_address(parity);
#pragma unroll
    for (int side = 0; side < 2; ++side) {
      barrier_wait(shared.empty(parity, side), phases.of(parity) ^ 1U);
      const std::uint32_t full = shared.full(parity, side);
      barrier_arrive_expect(full, side == 0 ? Shape::kLeftBytes : Shape::kRightBytes);
      const int first = side * Shape::kSideBoxes;
#pragma unroll
      for (int box = first; box < first + Shape::kSideBoxes + side; ++box) {
        const std::uint32_t at = target + static_cast<std::uint32_t>(box) * kBoxBytes;
        copy_page_box(at, map, box * kBoxColumns, index, full);
      }
    }
    phases.next(parity);
  };
  for (int round = 0;; ++round) {
    int unit = 0;
    const AttentionItem item = turn_at(arguments, turn_of(round), unit);
    if (item.tokens == 0) return;
    const PageRange range = pages_of(arguments, item);
    if (range.last < range.first) continue;
    const int settled = settled_pages(arguments, item);
    const std::uint32_t* table = arguments.places.tables + item.table;
    std::uint32_t pages = 0;
    for (int page = range.first; page <= range.last; ++page) {
      const int ahead = (page - range.first) % 32;
      if (ahead == 0) pages = table[min(page + lane, range.last)];
      const auto index = static_cast<int>(__shfl_sync(0xFFFFFFFFU, pages, ahead));
      if (page >= settled && !has_waited) {
        if (arguments.team > 0 && lane == 0) expect_page(map, 0, index, Shape::kLatentBoxes + 1);
        wait_for_earlier_kernels();
        has_waited = true;
      }
      if (lane == 0) load(page, index);
    }
  }
}

// What a side works with.
template <int kSideNumber>
struct LatentSide {
  static constexpr int kSide = kSideNumber;

  const AttentionArguments& arguments;
  const LatentShared& shared;
  int warp;  // of the side
  LatentPhases phases;

  // A thread's part of the tile.
  Sight sight[2];
  RowSums rows;
  float sums[LatentAttention::kSums];
};

template <int kSide>
__device__ int row_of(const LatentSide<kSide>& self, int h) {
  return self.warp * 16 + static_cast<int>(threadIdx.x) % 32 / 4 + 8 * h;
}

// Starts the scores of a page once it is there.
template <int kSide>
__device__ void start_scores(const LatentSide<kSide>& self, float (&scores)[32]) {
  constexpr int parity = kSide;
  using Shape = LatentAttention;
  const LatentShared shared = self.shared.anew();
  const Operand keys = along(shared.page_address(parity));
  const Operand queries = along(shared.queries_address());
#pragma unroll
  for (int box = 0; box <= Shape::kLatentBoxes; ++box) {
    if (box == 0 || box == Shape::kSideBoxes) {
      barrier_wait(self.shared.full(parity, box / Shape::kSideBoxes), self.phases.of(parity));
      wgmma_fence();
    }
    const std::uint32_t at = static_cast<std::uint32_t>(box) * kBoxBytes;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const std::uint32_t adds = box + k > 0 ? 1U : 0U;
      score_product(scores, queries.at(at + 32 * k), keys.at(at + 32 * k), adds);
    }
  }
  wgmma_commit();
}

// This side's columns of a page's tokens 16 k to 16 k + 15.
template <int kSide>
__device__ Operand values_at(const LatentShared& shared, int parity, int k) {
  const std::uint32_t side = static_cast<std::uint32_t>(kSide) * LatentAttention::kLeftBytes;
  const std::uint32_t tokens = static_cast<std::uint32_t>(k) * 16 * 128;
  return across(shared.page_address(parity), kBoxBytes).at(side + tokens);
}

// Zeros for this side's values of the tokens from `first` on, which nothing may have been written
// to.
template <int kSide>
__device__ void clear_latents(const LatentSide<kSide>& self, int parity, int first) {
  unsigned char* values =
      self.shared.page(parity) + kSide * static_cast<int>(LatentAttention::kLeftBytes);
  const int chunks = (kPage - first) * 8;  // of 16 bytes, in a box
  for (int i = static_cast<int>(threadIdx.x) % 128; i < chunks * LatentAttention::kSideBoxes;
       i += 128) {
    auto* line =
        reinterpret_cast<uint4*>(values + i / chunks * static_cast<int>(kBoxBytes) + first * 128);
    line[i % chunks] = make_uint4(0, 0, 0, 0);
  }
  fence_async_proxy();
  named_sync(kSideAlone + kSide, 128);
}

template <int kSide>
__device__ void release_half(const LatentSide<kSide>& self, int parity) {
  __syncwarp();
  if (threadIdx.x % 32 == 0) barrier_arrive(self.shared.empty(parity, kSide));
}

// Weights, and what the other side must know of the rows, to shared memory.
template <int kSide>
__device__ void tell_weights(
    const LatentSide<kSide>& self,
    const std::uint32_t (&weights)[4][4],
    const float (&factors)[2]
) {
  LatentNotes& notes = self.shared.notes();
  const std::uint32_t target = self.shared.weights_address();
  const int lane = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int row = row_of(self, h);
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const int at = row * 128 + (j ^ row % 8) * 16 + lane * 4;
      store_shared(target + static_cast<std::uint32_t>(at), weights[j / 2][j % 2 * 2 + h]);
    }
    if (lane == 0) {
      notes.top[row] = self.rows.top[h];
      notes.factor[kSide][row] = factors[h];
    }
  }
  fence_async_proxy();
  named_arrive(kWeightsReady + kSide, LatentAttention::kComputeThreads);
}

// The pages of a stretch in a row, as one side sees them.
struct LatentPages {
  int first = 0;  // even
  int last = -1;
  int hidden = 0;  // from this page on, some row does not see all of it
  int known = 0;   // tokens of the sequence that are in the cache
};

// Waits for the products of the other side's page, if there was one.
template <int kSide>
__device__ void end_other(LatentSide<kSide>& self, bool has_page) {
  wgmma_wait<0>();
  hold(self.sums);
  if (has_page) release_half(self, 1 - kSide);
}

// A page whose weights this side makes from its finished scores, while the other side's page before
// may be under way.
template <int kSide>
__device__ void
attend_own(LatentSide<kSide>& self, const LatentPages& pages, int page, float (&scores)[32]) {
  if (page >= pages.hidden) hide(scores, page * kPage, self.sight);
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    self.rows.top[h] = page > pages.first ? self.shared.notes().top[row_of(self, h)] : kNever;
  }
  float factors[2];
  weigh(scores, self.arguments.scale, self.rows, factors);
  std::uint32_t weights[4][4];
  pack_weights(scores, weights);
  if (kSide == 0) end_other(self, page > pages.first);
  tell_weights(self, weights, factors);
  rescale(self.sums, factors);
  const int known = pages.known - page * kPage;
  if (known < kPage) clear_latents(self, kSide, known);
  const LatentShared shared = self.shared.anew();
  wgmma_fence();
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    value_product(self.sums, weights[k], values_at<kSide>(shared, kSide, k));
  }
  wgmma_commit();
  wgmma_wait<0>();
  hold(self.sums);
  release_half(self, kSide);
  self.phases.next(kSide);
}

// A page whose weights the other side makes: its products stay under way.
template <int kSide>
__device__ void attend_other(LatentSide<kSide>& self, const LatentPages& pages, int page) {
  constexpr int kParity = 1 - kSide;
  named_sync(kWeightsReady + kParity, LatentAttention::kComputeThreads);
  float factors[2];
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    factors[h] = self.shared.notes().factor[kParity][row_of(self, h)];
    self.rows.mass[h] *= factors[h];
  }
  rescale(self.sums, factors);
  barrier_wait(self.shared.full(kParity, kSide), self.phases.of(kParity));
  const int known = pages.known - page * kPage;
  if (known < kPage) clear_latents(self, kParity, known);
  const LatentShared shared = self.shared.anew();
  const Operand weights = along(shared.weights_address());
  wgmma_fence();
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    value_product(self.sums, weights.at(32 * k), values_at<kSide>(shared, kParity, k));
  }
  wgmma_commit();
  self.phases.next(kParity);
}

// Its own pages are even. The scores of the next one are under way before the odd page's weights
// are there, and its softmax runs under the odd page's products.
__device__ inline void walk_pages(LatentSide<0>& self, const LatentPages& pages) {
  float scores[32];
  start_scores(self, scores);
  wgmma_wait<0>();
  hold(scores);
  attend_own(self, pages, pages.first, scores);
  for (int page = pages.first + 1; page < pages.last; page += 2) {
    start_scores(self, scores);
    attend_other(self, pages, page);
    wgmma_wait<1>();
    hold(scores);
    attend_own(self, pages, page + 1, scores);
  }
  if ((pages.last - pages.first) % 2 == 0) return;
  attend_other(self, pages, pages.last);
  end_other(self, true);
}

// Its own pages are odd. It is done with the even page before it takes up its own, so that the
// room is free for the next even page, whose scores the other side waits for.
__device__ inline void walk_pages(LatentSide<1>& self, const LatentPages& pages) {
  for (int page = pages.first; page <= pages.last; page += 2) {
    attend_other(self, pages, page);
    end_other(self, true);
    if (page == pages.last) return;
    float scores[32];
    start_scores(self, scores);
    wgmma_wait<0>();
    hold(scores);
    attend_own(self, pages, page + 1, scores);
  }
}

// A stretch from nothing: its sums, maxima and masses.
template <int kSide>
__device__ void attend_stretch(LatentSide<kSide>& self, const LatentPages& pages) {
  self.rows = RowSums{};
#pragma unroll
  for (float& sum : self.sums) {
    sum = 0.0F;
  }
  walk_pages(self, pages);
  gather_masses(self.rows);
  LatentNotes& notes = self.shared.notes();
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    if (threadIdx.x % 4 == 0) notes.mass[kSide][row_of(self, h)] = self.rows.mass[h];
  }
  named_sync(kSidesMeet, LatentAttention::kComputeThreads);
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int row = row_of(self, h);
    self.rows.top[h] = notes.top[row];
    self.rows.mass[h] = notes.mass[0][row] + notes.mass[1][row];
  }
  // Neither side may note anything about the next stretch before.
  named_sync(kSidesMeet, LatentAttention::kComputeThreads);
}

// Where a thread keeps its part of merged stretches: piece i at [i * 128], each thread its own.
template <int kSide>
__device__ float4* totals_of(const LatentSide<kSide>& self) {
  const auto block = static_cast<std::int64_t>(blockIdx.x) * 2 + kSide;
  return reinterpret_cast<float4*>(self.arguments.totals) +
         block * (LatentAttention::kSums / 4) * 128 + threadIdx.x % 128;
}

// Merges the stretch into the ones before it, which leaves the total where the stretch was.
template <int kSide>
__device__ void merge_totals(LatentSide<kSide>& self, const RowSums& total_rows) {
  const float4* totals = totals_of(self);
  const float scale = self.arguments.scale;
  const Merge merges[2] = {
      Merge(total_rows.top[0], self.rows.top[0], scale),
      Merge(total_rows.top[1], self.rows.top[1], scale)};
#pragma unroll
  for (int i = 0; i < LatentAttention::kSums / 4; ++i) {
    const float4 total = totals[i * 128];
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

template <int kSide>
__device__ void keep_totals(const LatentSide<kSide>& self) {
  float4* totals = totals_of(self);
#pragma unroll
  for (int i = 0; i < LatentAttention::kSums / 4; ++i) {
    const float* sums = self.sums + 4 * i;
    totals[i * 128] = make_float4(sums[0], sums[1], sums[2], sums[3]);
  }
}

// Merged sums, or a piece's, to where they belong.
template <int kSide>
__device__ void finish_latents(const LatentSide<kSide>& self, int turn, const RowSums& rows) {
  using Shape = LatentAttention;
  constexpr ValueColumns kColumns{.first = kSide * Shape::kSideColumns, .width = Shape::kLatent};
  const AttentionArguments& arguments = self.arguments;
  int unit = 0;
  const AttentionItem item = turn_at(arguments, turn, unit);
  const TileRows tile(arguments, item, unit, 0);
  if (item.pieces == 1) {
    store_output(arguments, item, tile, self.warp, kColumns, rows, self.sums);
    return;
  }
  if (item.stretch == 0) {
    store_partial(arguments, item, tile, self.warp, 0, kColumns, rows, self.sums);
  }
  const Handover who{
      .thread = static_cast<int>(threadIdx.x) - 128,
      .threads = Shape::kComputeThreads,
      .barrier = kSidesMeet,
      .group = 0,
      .groups = 1,
      .flag = &self.shared.notes().flag};
  if (arguments.team == 0) hand_over(arguments, item, tile, unit, Shape::kLatent, who);
}

// Sums of a stretch that is not merged here to their slot.
template <int kSide>
__device__ void give_stretch(const LatentSide<kSide>& self, int turn, int stretch) {
  using Shape = LatentAttention;
  constexpr ValueColumns kColumns{.first = kSide * Shape::kSideColumns, .width = Shape::kLatent};
  const AttentionArguments& arguments = self.arguments;
  int unit = 0;
  const AttentionItem item = turn_at(arguments, turn, unit);
  const TileRows tile(arguments, item, unit, 0);
  const int slot = slot_of(arguments, item, stretch);
  store_partial(arguments, item, tile, self.warp, slot, kColumns, self.rows, self.sums);
}

// What a side must know of its turn while pages pass.
struct LatentPassage {
  int stretch = 0;  // first, and one past the last
  int stretches_end = 0;
  int stretch_pages = 1;
  int last_page = -1;
  bool merges = true;    // the stretches, or hands each over
  bool is_real = true;   // this warp has rows of the tile
  int position = 0;      // of the tile's first row
  int known = 0;         // tokens of the sequence that are in the cache
  bool is_over = false;  // no turn is left
};

// Queries to shared memory, and what the rows see.
template <int kSide>
__device__ LatentPassage begin_latents(LatentSide<kSide>& self, int turn) {
  using Shape = LatentAttention;
  const AttentionArguments& arguments = self.arguments;
  int unit = 0;
  const AttentionItem item = turn_at(arguments, turn, unit);
  if (item.tokens == 0) return {.is_over = true};
  const TileRows tile(arguments, item, unit, 0);
  const PageRange range = pages_of(arguments, item);
  wait_for_earlier_kernels();
  unsigned char* queries = self.shared.queries();
  place_queries<Shape::kLatentBoxes, Shape::kComputeThreads>(
      item, tile, arguments.query[0], queries
  );
  place_queries<1, Shape::kComputeThreads>(
      item, tile, arguments.query[1], queries + Shape::kLatentBoxes * static_cast<int>(kBoxBytes)
  );
  fence_async_proxy();
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const TileRow row(tile, self.warp, h);
    self.sight[h] = {.first = 0, .last = min(item.position + row.token, tile.last_position)};
  }
  named_sync(kSidesMeet, Shape::kComputeThreads);
  return {
      .stretch = item.stretch,
      .stretches_end = item.stretch + item.stretches,
      .stretch_pages = range.stretch,
      .last_page = range.last,
      .merges = item.pieces == 1 || item.stretch == 0,
      .is_real = self.warp * 16 < tile.tokens * tile.heads,
      .position = item.position,
      .known = tile.last_position + 1};
}

// A side's part of an item; false past the last.
template <int kSide>
__device__ bool attend_latents(LatentSide<kSide>& self, int turn) {
  const LatentPassage passage = begin_latents(self, turn);
  if (passage.is_over) return false;
  RowSums total_rows;
#pragma unroll
  for (float& sum : self.sums) {
    sum = 0.0F;
  }
  for (int stretch = passage.stretch; stretch < passage.stretches_end; ++stretch) {
    attend_stretch(
        self,
        {.first = stretch * passage.stretch_pages,
         .last = min((stretch + 1) * passage.stretch_pages - 1, passage.last_page),
         .hidden = (passage.position + 1) / kPage,
         .known = passage.known}
    );
    if (!passage.merges) {
      give_stretch(self, turn, stretch);
      continue;
    }
    if (!passage.is_real) continue;
    if (stretch > 0) merge_totals(self, total_rows);
    if (stretch + 1 < passage.stretches_end) keep_totals(self);
    total_rows = self.rows;
  }
  finish_latents(self, turn, total_rows);
  return true;
}

template <int kSide>
__device__ void
compute_latents(const AttentionArguments& arguments, const LatentShared& shared, int warp) {
  LatentSide<kSide> self{
      .arguments = arguments,
      .shared = shared,
      .warp = warp,
      .phases = {},
      .sight = {},
      .rows = {},
      .sums = {}};
  for (int round = 0; attend_latents(self, turn_of(round)); ++round) {
  }
  // Also where this block had no turn.
  wait_for_earlier_kernels();
  if (arguments.team > 0) {
    using Shape = LatentAttention;
    const int thread = static_cast<int>(threadIdx.x) - 128;
    merge_in_team(arguments, thread, Shape::kComputeThreads, Shape::kLatent);
  }
}

__global__ void __launch_bounds__(LatentAttention::kThreads, 1) latent_attention_kernel(
    const __grid_constant__ AttentionArguments arguments,
    const __grid_constant__ CUtensorMap map
) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) unsigned char memory[];
  const LatentShared shared{memory, shared_address(memory)};
  let_next_kernel_start();
  shared.open();
  const int warp = __shfl_sync(0xFFFFFFFFU, static_cast<int>(threadIdx.x) / 32, 0);
  if (warp < 4) {
    registers_give<LatentAttention::kFeederRegisters>();
    if (warp == 0) feed_latents(arguments, &map, shared);
  } else {
    registers_take<LatentAttention::kComputeRegisters>();
    if (warp < 8) {
      compute_latents<0>(arguments, shared, warp % 4);
    } else {
      compute_latents<1>(arguments, shared, warp % 4);
    }
  }
#else
  __trap();  // built for GPUs without Hopper's instructions
#endif
}

}  // namespace pleiad::kernels::cuda::hopper
