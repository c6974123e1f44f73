#pragma once

#include "kernels/cuda/detail/latent_block.cuh"

// The warpgroup of latent attention that makes weights. Device code alone includes this.
namespace pleiad::kernels::cuda::hopper {

struct LatentScores {
  const AttentionArguments& arguments;
  const LatentShared& shared;
  int warp;            // of the warpgroup
  LatentPhases full;   // of pages
  LatentPhases heard;  // of stretches
  int stretches = 0;   // behind this one
  int tile_rows = kTileRows;

  // A thread's part of the tile.
  Sight sight[2];
  RowSums rows;
};

// Scores of a page, part by part as they come.
__device__ inline void score_page(LatentScores& self, int parity, float (&scores)[32]) {
  using Shape = LatentAttention;
  const LatentShared shared = self.shared.anew();
  const Operand keys = along(shared.page_address(parity));
  const Operand queries = along(shared.queries_address());
#pragma unroll
  for (int box = 0; box <= Shape::kLatentBoxes; ++box) {
    if (box % Shape::kSideBoxes == 0) {
      barrier_wait(self.shared.full(parity, box / Shape::kSideBoxes), self.full.of(parity));
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
  wgmma_wait<0>();
  hold(scores);
  self.full.next(parity);
}

// Weights, in the place of the page's roped columns, and by how much they change the sums before.
__device__ inline void tell_weights(
    const LatentScores& self,
    int parity,
    const std::uint32_t (&weights)[4][4],
    const float (&factors)[2]
) {
  LatentNotes& notes = self.shared.notes();
  const std::uint32_t target = self.shared.weights_address(parity);
  const int lane = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int row = latent_row(self.warp, h);
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const int at = row * 128 + (j ^ row % 8) * 16 + lane * 4;
      store_shared(target + static_cast<std::uint32_t>(at), weights[j / 2][j % 2 * 2 + h]);
    }
    if (lane == 0) notes.factor[parity][row] = factors[h];
  }
  fence_async_proxy();
  arrive_warp(self.shared.weighed(parity));
}

// A page; some rows do not see all of its tokens if some are `hidden`.
__device__ inline void weigh_page(LatentScores& self, int page, bool hidden) {
  float scores[32];
  score_page(self, page % 2, scores);
  if (hidden) hide(scores, page * kPage, self.sight);
  float factors[2];
  weigh(scores, self.arguments.scale, self.rows, factors);
  std::uint32_t weights[4][4];
  pack_weights(scores, weights);
  // All warps are done with the roped columns.
  named_sync(kScoresMeet, LatentAttention::kGroupThreads);
  tell_weights(self, page % 2, weights, factors);
}

// Says what the rows of a stretch weigh.
__device__ inline void tell_masses(LatentScores& self) {
  gather_masses(self.rows);
  const int parity = self.stretches % 2;
  barrier_wait(self.shared.heard(parity), self.heard.of(parity) ^ 1U);
  self.heard.next(parity);
  LatentNotes::Stretch& notes = self.shared.notes().stretch[parity];
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int row = latent_row(self.warp, h);
    if (threadIdx.x % 4 != 0) continue;
    notes.top[row] = self.rows.top[h];
    notes.mass[row] = self.rows.mass[h];
  }
  arrive_warp(self.shared.summed(parity));
  ++self.stretches;
}

// Queries to shared memory, and what the rows see.
__device__ inline void
take_queries(LatentScores& self, const AttentionItem& item, const TileRows& tile) {
  using Shape = LatentAttention;
  const AttentionArguments& arguments = self.arguments;
  const auto thread = static_cast<int>(threadIdx.x);
  unsigned char* queries = self.shared.queries();
  // Nobody reads the queries of the turn before any more, nor what was kept between them.
  if (self.tile_rows <= kLatentFewRows && self.stretches > 0) {
    const int last = (self.stretches - 1) % 2;
    barrier_wait(self.shared.heard(last), self.heard.of(last) ^ 1U);
  }
  self.tile_rows = tile.tokens * tile.heads;
  named_sync(kScoresMeet, Shape::kGroupThreads);
  place_queries<Shape::kLatentBoxes, Shape::kGroupThreads>(
      item, tile, arguments.query[0], thread, queries
  );
  place_queries<1, Shape::kGroupThreads>(
      item,
      tile,
      arguments.query[1],
      thread,
      queries + Shape::kLatentBoxes * static_cast<int>(kBoxBytes)
  );
  fence_async_proxy();
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const TileRow row(tile, self.warp, h);
    self.sight[h] = {.first = 0, .last = min(item.position + row.token, tile.last_position)};
  }
  named_sync(kScoresMeet, Shape::kGroupThreads);
}

__device__ inline void
make_weights(const AttentionArguments& arguments, const LatentShared& shared, int warp) {
  LatentScores self{.arguments = arguments, .shared = shared, .warp = warp};
  for (int round = 0;; ++round) {
    const LatentTurn now(arguments, turn_of(round));
    const AttentionItem& item = now.item;
    if (item.tokens == 0) return;
    wait_for_earlier_kernels();
    take_queries(self, item, now.tile);
    const LatentPassage passage(arguments, item);
    const int hidden = (item.position + 1) / kPage;
    for (int i = passage.stretch; i < passage.stretches_end; ++i) {
      const LatentPages pages = passage.pages(i);
      self.rows = RowSums{};
      for (int page = pages.first; page <= pages.last; ++page) {
        weigh_page(self, page, page >= hidden);
      }
      tell_masses(self);
    }
  }
}

}  // namespace pleiad::kernels::cuda::hopper
