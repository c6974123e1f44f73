#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "device/dtype.h"
#include "kv/paged_cache.h"

// What caches hold, told so that it fits however many tensor parts a model is spread over. The line
// of a token in one layer is the keys of some heads, then the values of the same heads; a latent is
// one head whose value has no width.
namespace pleiad::kv {

// Lines of a model over all its tensor parts.
struct LineShape {
  std::int64_t layers = 0;
  std::int64_t heads = 0;
  std::int64_t key_width = 0;  // elements
  std::int64_t value_width = 0;
  device::DType dtype = device::DType::BF16;

  // Bytes of `heads` heads of one token in one layer.
  [[nodiscard]] std::size_t bytes(std::int64_t of_heads) const {
    return static_cast<std::size_t>(of_heads * (key_width + value_width)) * device::size_of(dtype);
  }
  friend bool operator==(const LineShape&, const LineShape&) = default;
};

// Heads [first, first + count).
struct HeadRange {
  std::int64_t first = 0;
  std::int64_t count = 0;

  friend bool operator==(const HeadRange&, const HeadRange&) = default;
};

// How one tensor part's cache lies in memory, as PagedCache lays it out.
struct PartPlan {
  LineShape shape;
  HeadRange heads;
  std::int64_t pages = 0;

  // Of the cache as a whole.
  [[nodiscard]] CacheShape cache_shape() const;
  // Where a line of a page is, from the cache's first byte on; the page's next lines follow.
  [[nodiscard]] std::size_t offset(std::int64_t layer, std::uint32_t page, std::int64_t line) const;
};

// A part's cache to write to. The memory is somebody else's.
struct PartCache {
  PartPlan plan;
  std::byte* base = nullptr;
};

// A part's cache to read from, maybe of another process.
struct PartSource {
  PartPlan plan;
  const std::byte* base = nullptr;
};

// Tokens [first, first + count) of a sequence that lie in one of its pages.
struct PagePiece {
  std::size_t page = 0;   // index into the sequence's page table
  std::int64_t line = 0;  // of the first token
  std::int64_t first = 0;
  std::int64_t count = 0;
};

// The piece that `first` begins, of tokens up to `end`.
PagePiece piece_at(std::int64_t first, std::int64_t end);

// Goes on with the checksum of tokens' lines: `lines` are those of one piece. Starts at 0. The sum
// depends on tokens and heads, not on who holds them.
std::uint64_t checksum_piece(std::uint64_t sum, std::span<const std::byte> lines);

// Writes the heads that `to` has of `lines` [count, line of `heads`] into its lines.
void scatter(
    std::span<const std::byte> lines,
    const HeadRange& heads,
    const PartCache& to,
    std::int64_t layer,
    std::uint32_t page,
    const PagePiece& piece
);

}  // namespace pleiad::kv
