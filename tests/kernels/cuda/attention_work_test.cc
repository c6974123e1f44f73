#include "kernels/cuda/attention_work.h"

#include <map>
#include <set>

#include <gtest/gtest.h>

#include "kernels/cuda/paged_attention.h"
#include "tests/kernels/cuda/device_array.h"

namespace pleiad::kernels::cuda {
namespace {

using testing::DeviceArray;

constexpr AttentionPlan kPlan{
    .path = AttentionPath::Grouped,
    .units = 4,
    .unit_heads = 8,
    .tile_tokens = 8};

struct Row {
  std::int32_t table = 0;
  std::int32_t position = 0;
};

std::vector<AttentionItem> list_of(const std::vector<Row>& rows, std::int64_t scratch_rows) {
  auto stream = testing::test_stream();
  std::vector<std::int32_t> positions;
  std::vector<std::int32_t> tables;
  for (const Row& row : rows) {
    positions.push_back(row.position);
    tables.push_back(row.table);
  }
  const auto count = static_cast<std::int64_t>(rows.size());
  const DeviceArray<std::int32_t> device_positions(positions);
  const DeviceArray<std::int32_t> device_tables(tables);
  const DeviceArray<std::byte> memory(
      std::vector<std::byte>(attention_work_bytes(kPlan, count), std::byte{0xFF})
  );
  list_attention_work(
      stream,
      {.rows = count,
       .places = {.positions = device_positions.data(), .table_of = device_tables.data()},
       .plan = kPlan,
       .scratch_rows = scratch_rows,
       .work = attention_work_at(memory.data(), kPlan, count)}
  );
  const std::vector<std::byte> bytes = memory.values(stream);
  const auto* first = reinterpret_cast<const AttentionItem*>(bytes.data());
  const auto* last = first;
  while (last->tokens > 0) {
    ++last;
  }
  return {first, last};
}

// Every row is in one tile of its own sequence, every tile's pieces cover its stretches, and no two
// tiles share a slot.
void expect_sound(const std::vector<Row>& rows, const std::vector<AttentionItem>& items) {
  std::map<std::int32_t, std::vector<AttentionItem>> tiles;
  for (const AttentionItem& item : items) {
    tiles[item.tile].push_back(item);
  }
  std::set<std::int32_t> rows_seen;
  std::set<std::int32_t> slots_seen;
  for (const auto& [tile, pieces] : tiles) {
    const AttentionItem& head = pieces.front();
    EXPECT_EQ(static_cast<std::int32_t>(pieces.size()), head.pieces);
    for (std::int32_t r = 0; r < head.tokens; ++r) {
      const Row& row = rows.at(static_cast<std::size_t>(head.row + r));
      EXPECT_EQ(row.table, rows.at(static_cast<std::size_t>(head.row)).table);
      EXPECT_EQ(row.position, head.position + r);
      EXPECT_TRUE(rows_seen.insert(head.row + r).second);
    }
    const std::int32_t last = head.position + head.tokens - 1;
    const std::int32_t stretches = head.position < 0 ? 0 : stretch_count(kPlan.rule, last);
    std::int32_t covered = 0;
    for (const AttentionItem& piece : pieces) {
      EXPECT_EQ(piece.stretch, covered);
      covered += piece.stretches;
    }
    EXPECT_EQ(covered, stretches);
    if (head.pieces == 1) continue;
    const std::int32_t slots = (stretches - pieces.front().stretches + 1) * head.tokens;
    for (std::int32_t slot = 0; slot < slots; ++slot) {
      EXPECT_TRUE(slots_seen.insert(head.slot + slot).second);
    }
  }
  EXPECT_EQ(rows_seen.size(), rows.size());
}

TEST(CudaAttentionWork, NeighboursOfASequenceShareTilesAndOthersDoNot) {
  std::vector<Row> rows = {{0, 700}, {9, 90}, {9, 91}, {9, 93}, {20, -1}, {20, -1}};
  for (std::int32_t position = 100; position < 150; ++position) {
    rows.push_back({30, position});
  }
  const auto items = list_of(rows, 128);

  expect_sound(rows, items);
  std::set<std::int32_t> tiles;
  for (const AttentionItem& item : items) {
    tiles.insert(item.tile);
  }
  EXPECT_EQ(tiles.size(), 1U + 2U + 2U + 7U);
}

TEST(CudaAttentionWork, ALongSequenceIsCutAmongTheBlocksAndAFullStepIsNot) {
  const auto alone = list_of({{0, 16383}}, 128);
  expect_sound({{0, 16383}}, alone);
  EXPECT_EQ(alone.size(), 32U);

  std::vector<Row> rows;
  for (std::int32_t i = 0; i < 3000; ++i) {
    rows.push_back({i * 16, 1000});
  }
  const auto items = list_of(rows, 128);
  expect_sound(rows, items);
  EXPECT_EQ(items.size(), 3000U);
}

TEST(CudaAttentionWork, TilesWithoutSlotsStayWhole) {
  std::vector<Row> rows;
  for (std::int32_t i = 0; i < 4; ++i) {
    rows.push_back({i * 300, 16383});
  }
  expect_sound(rows, list_of(rows, 4));
  const auto items = list_of(rows, 1);
  expect_sound(rows, items);
  EXPECT_LT(items.size(), 4U * 16U);
}

TEST(CudaAttentionWork, TilesEndWhereStretchesGrowLonger) {
  std::vector<Row> rows;
  for (std::int32_t position = 16379; position < 16392; ++position) {
    rows.push_back({0, position});
  }
  const auto items = list_of(rows, 128);

  expect_sound(rows, items);
  for (const AttentionItem& item : items) {
    EXPECT_FALSE(item.position < 16384 && item.position + item.tokens > 16384);
  }
}

// Prompts of several steps' worth of threads.
TEST(CudaAttentionWork, TakesAnyNumberOfRows) {
  for (const std::int32_t count : {1, 1023, 1024, 1025, 5000}) {
    std::vector<Row> rows;
    for (std::int32_t i = 0; i < count; ++i) {
      rows.push_back({i / 700, i % 700});
    }
    expect_sound(rows, list_of(rows, 128));
  }
}

}  // namespace
}  // namespace pleiad::kernels::cuda
