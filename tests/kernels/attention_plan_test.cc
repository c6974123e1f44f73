#include "kernels/detail/attention_plan.h"

#include <set>

#include <gtest/gtest.h>

#include "tests/kernels/support.h"

namespace pleiad::kernels::detail {
namespace {

struct Planned {
  Planned(AttentionShape given, std::vector<AttentionRow> given_rows, int workers)
      : shape(given),
        rows(std::move(given_rows)),
        scratch(
            AttentionPlan::scratch_floats(shape, static_cast<std::int64_t>(rows.size()), workers)
        ),
        plan(shape, rows, workers, scratch) {}

  AttentionShape shape;
  std::vector<AttentionRow> rows;
  std::vector<float> scratch;
  AttentionPlan plan;
};

const std::uint32_t kFirst = 0;
const std::uint32_t kSecond = 0;

// Rows at positions [begin, end) of the sequence that `table` stands for.
void add_rows_to(
    std::vector<AttentionRow>& rows,
    const std::uint32_t* table,
    std::int64_t begin,
    std::int64_t end
) {
  for (std::int64_t t = begin; t < end; ++t) {
    rows.push_back({table, t});
  }
}

// Every (row, head, range) belongs to one unit, and units have the numbers they are asked for.
void expect_cover(const Planned& planned) {
  std::set<std::tuple<std::int64_t, std::int64_t, std::int64_t>> covered;
  std::size_t parts = 0;
  for (std::int64_t number = 0; number < planned.plan.units(); ++number) {
    const AttentionUnit unit = planned.plan.unit(number);
    ASSERT_EQ(unit.number, number);
    ASSERT_LE(unit.rows * unit.heads, planned.shape.pairs);
    for (std::int64_t row = unit.row; row < unit.row + unit.rows; ++row) {
      for (std::int64_t range = unit.range_begin; range < unit.range_end; ++range) {
        covered.insert({row, unit.head, range});
        ++parts;
      }
    }
  }
  EXPECT_EQ(covered.size(), parts);
  std::size_t expected = 0;
  for (const AttentionRow& row : planned.rows) {
    const auto ranges = static_cast<std::size_t>(row.position / (kPageTokens * kRangePages) + 1);
    expected += ranges * static_cast<std::size_t>(planned.shape.groups);
  }
  EXPECT_EQ(parts, expected);
}

TEST(AttentionPlan, CoversEveryRowHeadAndRangeOnce) {
  std::vector<AttentionRow> rows;
  add_rows_to(rows, &kFirst, 1000, 1100);
  add_rows_to(rows, &kSecond, 0, 5);
  add_rows_to(rows, &kSecond, 20'000, 20'003);
  for (const std::int64_t heads : {1, 8, 16, 64, 65, 128, 130}) {
    for (const std::int64_t kv_heads : {1, 2, 5, 64}) {
      if (heads % kv_heads != 0) continue;
      for (const int workers : {1, 2, 16, 64}) {
        SCOPED_TRACE(::testing::Message() << heads << '/' << kv_heads << " x " << workers);
        expect_cover(Planned({heads, kv_heads, 48, 32, 20'003}, rows, workers));
      }
    }
  }
}

TEST(AttentionPlan, NeverMixesSequencesOrRangesInATile) {
  std::vector<AttentionRow> rows;
  add_rows_to(rows, &kFirst, 1022, 1026);
  add_rows_to(rows, &kSecond, 1026, 1028);
  const Planned planned({8, 1, 48, 32, 1028}, rows, 1);

  ASSERT_EQ(planned.plan.tiles(), 3);
  EXPECT_EQ(planned.plan.unit(0).rows, 2);
  EXPECT_EQ(planned.plan.unit(1).rows, 2);
  EXPECT_EQ(planned.plan.unit(2).rows, 2);
}

TEST(AttentionPlan, CutsLongContextsOnlyWhereWorkersWouldIdle) {
  std::vector<AttentionRow> one;
  add_rows_to(one, &kFirst, 8191, 8192);
  std::vector<AttentionRow> many;
  add_rows_to(many, &kFirst, 8000, 8192);
  const AttentionShape shape(8, 1, 48, 32, 8192);

  EXPECT_FALSE(Planned(shape, one, 1).plan.split());
  EXPECT_TRUE(Planned(shape, one, 2).plan.split());
  EXPECT_FALSE(Planned(shape, many, 2).plan.split());
}

TEST(AttentionPlan, CutsIntoSpansThatAreNodesOfTheTree) {
  std::vector<AttentionRow> rows;
  add_rows_to(rows, &kFirst, 13'000, 13'001);
  const Planned planned({8, 1, 48, 32, 13'001}, rows, 2);

  for (std::int64_t number = 0; number < planned.plan.units(); ++number) {
    const AttentionUnit unit = planned.plan.unit(number);
    EXPECT_EQ(unit.range_begin % 2, 0);
    EXPECT_EQ(unit.range_end, std::min<std::int64_t>(unit.range_begin + 2, 13));
  }
}

}  // namespace
}  // namespace pleiad::kernels::detail
