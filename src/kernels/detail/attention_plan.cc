#include "kernels/detail/attention_plan.h"

#include <algorithm>
#include <bit>

#include "base/check.h"
#include "kernels/detail/isa_kernels.h"

namespace pleiad::kernels::detail {
namespace {

// Units per worker below which contexts are cut into spans.
constexpr std::int64_t kUnitsPerWorker = 3;

std::int64_t divide_up(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

std::size_t aligned(std::int64_t floats) {
  return static_cast<std::size_t>(divide_up(floats, kLanes) * kLanes);
}

std::int64_t ranges_at(std::int64_t position) {
  return position / (kPageTokens * kRangePages) + 1;
}

// The plan's table in scratch: for each tile its first row and first unit, and one entry past the
// last.
std::size_t table_floats(std::int64_t rows) {
  return aligned(2 * (rows + 1));
}

// Integers of the table, as the bits of floats.
void put(std::span<float> table, std::int64_t index, std::int64_t value) {
  table[static_cast<std::size_t>(index)] = std::bit_cast<float>(static_cast<std::uint32_t>(value));
}

std::int64_t get(std::span<const float> table, std::int64_t index) {
  return std::bit_cast<std::uint32_t>(table[static_cast<std::size_t>(index)]);
}

}  // namespace

AttentionShape::AttentionShape(
    std::int64_t heads_given,
    std::int64_t kv_heads,
    std::int64_t key_given,
    std::int64_t value,
    std::int64_t context_tokens
)
    : heads(heads_given),
      kv_queries(heads / kv_heads),
      kv_groups(divide_up(kv_queries, kPairsWanted)),
      groups(kv_heads * kv_groups),
      group_heads(divide_up(kv_queries, std::max<std::int64_t>(1, kv_groups))),
      tile_rows(std::max<std::int64_t>(1, kPairsWanted / std::max<std::int64_t>(1, group_heads))),
      key(key_given),
      width(divide_up(value, kLanes) * kLanes),
      ranges(ranges_at(context_tokens - 1)) {
  PLEIAD_CHECK(heads > 0 && kv_queries * kv_heads == heads);
  PLEIAD_CHECK(key > 0 && value > 0 && context_tokens > 0);
  pairs = tile_rows * group_heads;
}

std::size_t AttentionShape::q_floats() const {
  return aligned(pairs * key);
}
std::size_t AttentionShape::key_floats() const {
  return aligned(kPageTokens * key);
}
std::size_t AttentionShape::value_floats() const {
  return aligned(kPageTokens * width);
}
std::size_t AttentionShape::score_floats() const {
  // One pair more than there is: see Walk::accumulate().
  return aligned((pairs + 1) * kPageTokens);
}
std::size_t AttentionShape::state_floats() const {
  return aligned(pairs * (width + 2));
}

std::size_t AttentionShape::slot_floats() const {
  // While range i runs, one state waits for each bit of i.
  const int bits = 64 - std::countl_zero(static_cast<std::uint64_t>(ranges - 1));
  const std::size_t depth = 1 + static_cast<std::size_t>(bits);
  return q_floats() + key_floats() + value_floats() + score_floats() + depth * state_floats();
}

std::size_t
AttentionPlan::scratch_floats(const AttentionShape& shape, std::int64_t rows, int workers) {
  const auto slots = static_cast<std::size_t>(workers) * shape.slot_floats();
  // The last cut that the constructor makes at most doubles fewer than kUnitsPerWorker * workers
  // units.
  const std::int64_t cut = 2 * kUnitsPerWorker * workers;
  const bool never_cut = workers == 1 || shape.ranges == 1;
  const std::int64_t partials = never_cut ? 0 : std::min(cut, rows * shape.groups * shape.ranges);
  return table_floats(rows) + slots + static_cast<std::size_t>(partials) * shape.state_floats();
}

AttentionPlan::AttentionPlan(
    const AttentionShape& shape,
    std::span<const AttentionRow> rows,
    int workers,
    std::span<float> scratch
)
    : shape_(shape), rows_(rows), scratch_(scratch), workers_(workers) {
  const auto count = static_cast<std::int64_t>(rows.size());
  PLEIAD_CHECK(
      scratch.size() >= scratch_floats(shape, count, workers), "paged_attention_scratch() floats"
  );
  find_tiles();
  span_ranges_ = static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(shape.ranges)));
  units_ = count_units(span_ranges_);
  while (workers > 1 && span_ranges_ > 1 && units_ < kUnitsPerWorker * workers_) {
    span_ranges_ /= 2;
    units_ = count_units(span_ranges_);
  }
  std::int64_t unit = 0;
  for (std::int64_t tile = 0; tile < tiles_; ++tile) {
    put(scratch_, 2 * tile + 1, unit);
    unit += shape_.groups * spans(tile);
  }
  put(scratch_, 2 * tiles_ + 1, unit);
}

void AttentionPlan::find_tiles() {
  const auto count = static_cast<std::int64_t>(rows_.size());
  std::int64_t begin = 0;
  for (std::int64_t row = 0; row <= count; ++row) {
    if (row > 0 && row < count) {
      const AttentionRow& before = rows_[static_cast<std::size_t>(row - 1)];
      const AttentionRow& here = rows_[static_cast<std::size_t>(row)];
      const bool together =
          here.page_table == before.page_table && here.position > before.position &&
          ranges_at(here.position) == ranges_at(before.position) && row - begin < shape_.tile_rows;
      if (together) continue;
    }
    if (row < count) put(scratch_, 2 * tiles_++, row);
    begin = row;
  }
  put(scratch_, 2 * tiles_, count);
}

std::int64_t AttentionPlan::first_row(std::int64_t tile) const {
  return get(scratch_, 2 * tile);
}

std::int64_t AttentionPlan::first_unit(std::int64_t tile) const {
  return get(scratch_, 2 * tile + 1);
}

std::int64_t AttentionPlan::ranges_of(std::int64_t tile) const {
  return ranges_at(rows_[static_cast<std::size_t>(first_row(tile))].position);
}

std::int64_t AttentionPlan::spans(std::int64_t tile) const {
  return divide_up(ranges_of(tile), span_ranges_);
}

std::int64_t AttentionPlan::count_units(std::int64_t span) const {
  std::int64_t units = 0;
  for (std::int64_t tile = 0; tile < tiles_; ++tile) {
    units += shape_.groups * divide_up(ranges_of(tile), span);
  }
  return units;
}

AttentionUnit AttentionPlan::unit(std::int64_t number) const {
  // The last tile whose first unit is at most `number`.
  std::int64_t low = 0;
  std::int64_t high = tiles_;
  while (high - low > 1) {
    const std::int64_t middle = (low + high) / 2;
    if (first_unit(middle) <= number) {
      low = middle;
    } else {
      high = middle;
    }
  }
  const std::int64_t within = number - first_unit(low);
  return unit_of(low, within / spans(low), within % spans(low));
}

AttentionUnit AttentionPlan::unit_of(std::int64_t tile, std::int64_t group, std::int64_t span)
    const {
  AttentionUnit unit;
  unit.number = first_unit(tile) + group * spans(tile) + span;
  unit.row = first_row(tile);
  unit.rows = first_row(tile + 1) - unit.row;
  const std::int64_t within = group % shape_.kv_groups * shape_.group_heads;
  unit.head = group / shape_.kv_groups * shape_.kv_queries + within;
  unit.heads = std::min(shape_.group_heads, shape_.kv_queries - within);
  unit.range_begin = span * span_ranges_;
  unit.range_end = std::min(unit.range_begin + span_ranges_, ranges_of(tile));
  const std::int64_t last = rows_[static_cast<std::size_t>(unit.row + unit.rows - 1)].position;
  unit.pages = last / kPageTokens + 1;
  unit.whole = spans(tile) == 1;
  return unit;
}

std::size_t AttentionPlan::slots_begin() const {
  return table_floats(static_cast<std::int64_t>(rows_.size()));
}

std::size_t AttentionPlan::partials_begin() const {
  return slots_begin() + static_cast<std::size_t>(workers_) * shape_.slot_floats();
}

}  // namespace pleiad::kernels::detail
