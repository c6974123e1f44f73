#pragma once

#include "kernels/cuda/detail/latent_scores.cuh"
#include "kernels/cuda/detail/latent_values.cuh"

// Latent attention (512 elements, 64 roped ones behind them) on Hopper's tensor cores. Device code
// alone includes this.
//
// A block has a tile of 64 rows, heads times neighbouring tokens. One warp loads pages of 64 x 576
// into two stages. One warpgroup makes a page's weights: scores, softmax, weights to shared memory,
// where the page's roped columns were. Two more add up values, 256 of the 512 columns each. So the
// softmax of one page runs under the products of the other, and a page's room is free as soon as
// its values are added.
//
// Bytes: 1152 a token, 139264 operations with it for 64 rows: two tiles with the same pages, as of
// 128 heads, do 242 operations a byte, near where memory and tensor cores are one roof.
//
// Bits: as in grouped_attention.cuh.
namespace pleiad::kernels::cuda::hopper {

// The copies of a page into the stage of its parity, part by part as they become free.
__device__ inline void load_latents(
    const LatentShared& shared,
    const CUtensorMap* map,
    int parity,
    std::uint32_t phase,
    std::int32_t index
) {
  using Shape = LatentAttention;
#pragma unroll
  for (int part = 0; part < kPageParts; ++part) {
    const int boxes = part == kRopedPart ? 1 : Shape::kSideBoxes;
    barrier_wait(shared.empty(parity, part), phase ^ 1U);
    const std::uint32_t full = shared.full(parity, part);
    barrier_arrive_expect(full, static_cast<std::uint32_t>(boxes) * kBoxBytes);
#pragma unroll
    for (int i = 0; i < boxes; ++i) {
      const int box = part * Shape::kSideBoxes + i;
      const std::uint32_t at =
          shared.page_address(parity) + static_cast<std::uint32_t>(box) * kBoxBytes;
      copy_page_box(at, map, box * kBoxColumns, index, full);
    }
  }
}

// One warp's work: page indices 32 at a time, the copies by its first lane.
__device__ inline void feed_latents(
    const AttentionArguments& arguments,
    const CUtensorMap* map,
    const LatentShared& shared
) {
  using Shape = LatentAttention;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  LatentPhases phases;
  bool has_waited = false;
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
      const int parity = page % 2;
      if (lane == 0) load_latents(shared, map, parity, phases.of(parity), index);
      phases.next(parity);
    }
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
    registers_give<LatentAttention::kScoreRegisters>();
    make_weights(arguments, shared, warp);
  } else if (warp < 12) {
    registers_take<LatentAttention::kValueRegisters>();
    add_values(arguments, shared, warp / 4 - 1, warp % 4);
  } else {
    registers_give<LatentAttention::kFeederRegisters>();
    if (warp == 12) feed_latents(arguments, &map, shared);
  }
#else
  __trap();  // built for GPUs without Hopper's instructions
#endif
}

}  // namespace pleiad::kernels::cuda::hopper
