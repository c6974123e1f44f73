#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/detail/attention_output.cuh"
#include "kernels/cuda/detail/wgmma_attention.cuh"

// What the roles of a block of latent attention share: shapes, memory, barriers, the pages of a
// turn. Device code alone includes this.
namespace pleiad::kernels::cuda::hopper {

struct LatentAttention {
  static constexpr int kLatent = 512;
  static constexpr int kGroupThreads = 128;  // of a warpgroup
  static constexpr int kValueThreads = 2 * kGroupThreads;
  static constexpr int kThreads = 4 * kGroupThreads;
  // A block starts with 128 a thread; what the others give up the values take.
  static constexpr int kFeederRegisters = 24;
  static constexpr int kScoreRegisters = 88;
  static constexpr int kValueRegisters = 200;
  static constexpr int kLatentBoxes = kLatent / kBoxColumns;
  static constexpr int kSideBoxes = kLatentBoxes / 2;
  static constexpr int kSideColumns = kLatent / 2;
  static constexpr int kSums = kSideColumns / 2;
  static constexpr std::uint32_t kSideBytes = kSideBoxes * kBoxBytes;
  static constexpr std::uint32_t kPageBytes = (kLatentBoxes + 1) * kBoxBytes;
};

// Parts of a page that come and go by themselves: the latent's halves, and the roped columns, whose
// place the page's weights take once its scores are there.
inline constexpr int kRopedPart = 2;
inline constexpr int kPageParts = 3;

// Tiles of so few rows, a warp's, leave most of the queries' lines unused: merged stretches are
// kept there, behind these rows of every box.
inline constexpr int kLatentFewRows = 16;

// What the roles tell each other, of every row, and their barriers.
struct LatentNotes {
  float factor[2][kTileRows];  // of sums before the last even and odd page
  struct Stretch {
    float top[kTileRows];  // largest score
    float mass[kTileRows];
  } stretch[2];                       // the last even and odd one
  std::uint64_t full[2][kPageParts];  // of even and odd pages
  std::uint64_t empty[2][kPageParts];
  std::uint64_t weighed[2];  // a page's weights and factors are told
  std::uint64_t summed[2];   // a stretch's masses are told
  std::uint64_t heard[2];    // and merged by those who add up values
  std::int32_t flag;
};

// A block's shared memory: two pages, queries, notes.
struct LatentShared {
  unsigned char* base;
  std::uint32_t address;  // of base, in the shared window

  static constexpr std::uint32_t kNotes = 3 * LatentAttention::kPageBytes;
  static constexpr int kBytes = static_cast<int>(kNotes + sizeof(LatentNotes));

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
  [[nodiscard]] __device__ std::uint32_t weights_address(int parity) const {
    return page_address(parity) + LatentAttention::kLatentBoxes * kBoxBytes;
  }
  [[nodiscard]] __device__ LatentNotes& notes() const {
    return *reinterpret_cast<LatentNotes*>(base + kNotes);
  }
  [[nodiscard]] __device__ std::uint32_t full(int parity, int part) const {
    return barrier(offsetof(LatentNotes, full), parity * kPageParts + part);
  }
  [[nodiscard]] __device__ std::uint32_t empty(int parity, int part) const {
    return barrier(offsetof(LatentNotes, empty), parity * kPageParts + part);
  }
  [[nodiscard]] __device__ std::uint32_t weighed(int parity) const {
    return barrier(offsetof(LatentNotes, weighed), parity);
  }
  [[nodiscard]] __device__ std::uint32_t summed(int parity) const {
    return barrier(offsetof(LatentNotes, summed), parity);
  }
  [[nodiscard]] __device__ std::uint32_t heard(int parity) const {
    return barrier(offsetof(LatentNotes, heard), parity);
  }

  // Called by all threads.
  __device__ void open() const {
    constexpr std::uint32_t kGroupWarps = 4;
    if (threadIdx.x == 0) {
      for (int parity = 0; parity < 2; ++parity) {
        for (int part = 0; part < kPageParts; ++part) {
          barrier_init(full(parity, part), 1);
          barrier_init(empty(parity, part), part == kRopedPart ? 2 * kGroupWarps : kGroupWarps);
        }
        barrier_init(weighed(parity), kGroupWarps);
        barrier_init(summed(parity), kGroupWarps);
        barrier_init(heard(parity), 2 * kGroupWarps);
      }
      barrier_init_fence();
    }
    __syncthreads();
  }

 private:
  [[nodiscard]] __device__ std::uint32_t barrier(std::size_t first, int index) const {
    return address + kNotes + static_cast<std::uint32_t>(first) +
           static_cast<std::uint32_t>(8 * index);
  }
};

// Which phase of two barriers, of even and odd pages or stretches, comes next.
struct LatentPhases {
  std::uint32_t bits = 0;

  [[nodiscard]] __device__ std::uint32_t of(int parity) const { return bits >> parity & 1U; }
  __device__ void next(int parity) { bits ^= 1U << parity; }
};

// Named barriers.
inline constexpr int kScoresMeet = 1;
inline constexpr int kValuesMeet = 2;
inline constexpr int kSideMeets = 3;  // and 4: of the left and the right side

// One arrival of a whole warp.
__device__ inline void arrive_warp(std::uint32_t barrier) {
  __syncwarp();
  if (threadIdx.x % 32 == 0) barrier_arrive(barrier);
}

// The row h of a thread in warp `warp` of its warpgroup.
__device__ inline int latent_row(int warp, int h) {
  return warp * 16 + static_cast<int>(threadIdx.x) % 32 / 4 + 8 * h;
}

// The pages of a stretch: [first, last], the first one even.
struct LatentPages {
  int first = 0;
  int last = -1;
};

// A turn: its item and tile. Read anew where it is needed, which takes less than registers.
struct LatentTurn {
  int unit = 0;
  AttentionItem item;
  TileRows tile;

  __device__ LatentTurn(const AttentionArguments& arguments, int turn)
      : item(turn_at(arguments, turn, unit)), tile(arguments, item, unit, 0) {}
};

// What all roles must know of a turn.
struct LatentPassage {
  int stretch = 0;  // first, and one past the last
  int stretches_end = 0;
  int stretch_pages = 1;
  int last_page = -1;

  __device__ LatentPassage(const AttentionArguments& arguments, const AttentionItem& item)
      : stretch(item.stretch), stretches_end(item.stretch + item.stretches) {
    const PageRange range = pages_of(arguments, item);
    stretch_pages = range.stretch;
    last_page = range.last;
  }
  [[nodiscard]] __device__ LatentPages pages(int index) const {
    return {
        .first = index * stretch_pages, .last = min((index + 1) * stretch_pages - 1, last_page)};
  }
};

}  // namespace pleiad::kernels::cuda::hopper
