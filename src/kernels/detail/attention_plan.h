#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/paged_attention.h"

// How attention falls into units of work and where each keeps its scratch. None of this
// shows in the result: a row's additions follow from its position alone (paged_attention.cc).
namespace pleiad::kernels::detail {

// Pages whose running softmax is one leaf of a row's merge tree.
inline constexpr std::int64_t kRangePages = 16;
// (row, head) pairs that share one conversion of a page.
inline constexpr std::int64_t kPairsWanted = 64;

// The sizes that follow from the model and the longest context.
struct AttentionShape {
  AttentionShape(
      std::int64_t heads,
      std::int64_t kv_heads,
      std::int64_t key,
      std::int64_t value,
      std::int64_t context_tokens
  );

  std::int64_t heads = 0;        // of queries
  std::int64_t kv_queries = 0;   // query heads that share a head of keys and values
  std::int64_t kv_groups = 0;    // groups of those; more than one only above kPairsWanted
  std::int64_t groups = 0;       // in all
  std::int64_t group_heads = 0;  // heads of a group; the last of a kv head may have fewer
  std::int64_t tile_rows = 0;    // rows of one sequence that share a unit
  std::int64_t pairs = 0;        // at most, in a unit
  std::int64_t key = 0;          // elements of a key
  std::int64_t width = 0;        // elements of a value, rounded up to whole panels
  std::int64_t ranges = 0;       // of the longest context

  // Floats of each piece of a worker's slot, multiples of 16.
  [[nodiscard]] std::size_t q_floats() const;
  [[nodiscard]] std::size_t key_floats() const;
  [[nodiscard]] std::size_t value_floats() const;
  [[nodiscard]] std::size_t score_floats() const;
  [[nodiscard]] std::size_t state_floats(
  ) const;  // one softmax state; the slot has a stack of them
  [[nodiscard]] std::size_t slot_floats() const;
};

// A tile of rows, a group of heads, a span of ranges.
struct AttentionUnit {
  std::int64_t number = 0;
  std::int64_t row = 0;  // of the task
  std::int64_t rows = 0;
  std::int64_t head = 0;
  std::int64_t heads = 0;
  std::int64_t range_begin = 0;
  std::int64_t range_end = 0;
  std::int64_t pages = 0;  // of the last row's context
  bool whole = false;      // the span is all of the context
};

// Units of a call. Tiles are runs of rows of one sequence with equally many ranges. Where tiles are
// too few to keep the workers busy, contexts are cut into spans of a power of two of ranges,
// aligned to it, so that a span is a node of the merge tree.
class AttentionPlan {
 public:
  static std::size_t scratch_floats(const AttentionShape& shape, std::int64_t rows, int workers);

  // Keeps its table at the start of `scratch`. REQUIRES: scratch of scratch_floats().
  AttentionPlan(
      const AttentionShape& shape,
      std::span<const AttentionRow> rows,
      int workers,
      std::span<float> scratch
  );

  [[nodiscard]] const AttentionShape& shape() const { return shape_; }
  [[nodiscard]] std::int64_t tiles() const { return tiles_; }
  [[nodiscard]] std::int64_t units() const { return units_; }
  // Whether some unit is not whole.
  [[nodiscard]] bool split() const { return units_ > tiles_ * shape_.groups; }
  // Spans of a tile's context.
  [[nodiscard]] std::int64_t spans(std::int64_t tile) const;
  [[nodiscard]] AttentionUnit unit(std::int64_t number) const;
  [[nodiscard]] AttentionUnit unit_of(std::int64_t tile, std::int64_t group, std::int64_t span)
      const;

  // Where in scratch the workers' slots and the units' states begin.
  [[nodiscard]] std::size_t slots_begin() const;
  [[nodiscard]] std::size_t partials_begin() const;

 private:
  [[nodiscard]] std::int64_t first_row(std::int64_t tile) const;
  [[nodiscard]] std::int64_t first_unit(std::int64_t tile) const;
  [[nodiscard]] std::int64_t ranges_of(std::int64_t tile) const;
  void find_tiles();
  [[nodiscard]] std::int64_t count_units(std::int64_t span) const;

  const AttentionShape& shape_;
  std::span<const AttentionRow> rows_;
  std::span<float> scratch_;
  std::int64_t workers_ = 0;
  std::int64_t tiles_ = 0;
  std::int64_t units_ = 0;
  std::int64_t span_ranges_ = 0;
};

}  // namespace pleiad::kernels::detail
