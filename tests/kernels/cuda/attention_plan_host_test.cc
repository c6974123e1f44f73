#include <gtest/gtest.h>

#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/attention_work.h"

namespace pleiad::kernels::cuda {
namespace {

AttentionShape grouped(std::int64_t heads, std::int64_t kv_heads, std::int64_t width) {
  const AttentionPages pages = grouped_pages(kv_heads, width, width);
  return {
      .dtype = device::DType::BF16,
      .heads = heads,
      .kv_heads = kv_heads,
      .keys = pages.keys,
      .values = pages.values,
      .line = pages.line,
      .query_first = width};
}

TEST(AttentionPlan, GivesGroupsOfHeadsTheirOwnWalkAndFillsTilesWithNeighbours) {
  const AttentionPlan plan = attention_plan(grouped(32, 4, 128));

  EXPECT_EQ(plan.path, AttentionPath::Grouped);
  EXPECT_EQ(plan.units, 4);
  EXPECT_EQ(plan.unit_heads, 8);
  EXPECT_EQ(plan.tile_tokens, 8);
}

TEST(AttentionPlan, LeavesRowsOfATileUnusedWhereHeadsDoNotDivideIt) {
  EXPECT_EQ(attention_plan(grouped(12, 2, 64)).tile_tokens, 10);
  EXPECT_EQ(attention_plan(grouped(5, 5, 64)).tile_tokens, 64);
  EXPECT_EQ(attention_plan(grouped(64, 1, 128)).tile_tokens, 1);
}

TEST(AttentionPlan, TakesWindowsAndSinksOfGroupedHeads) {
  AttentionShape shape = grouped(64, 8, 64);
  shape.windowed = true;
  shape.sinks = true;

  EXPECT_EQ(attention_plan(shape).path, AttentionPath::Grouped);
}

TEST(AttentionPlan, LeavesOtherShapesAndTypesToTheGenericKernel) {
  EXPECT_EQ(attention_plan(grouped(8, 2, 96)).path, AttentionPath::Generic);
  EXPECT_EQ(attention_plan(grouped(8, 2, 256)).path, AttentionPath::Generic);
  EXPECT_EQ(attention_plan(grouped(128, 1, 128)).path, AttentionPath::Generic);
  AttentionShape shape = grouped(32, 4, 128);
  shape.dtype = device::DType::F32;
  EXPECT_EQ(attention_plan(shape).path, AttentionPath::Generic);
  shape = grouped(32, 4, 128);
  shape.values.width = 64;
  EXPECT_EQ(attention_plan(shape).path, AttentionPath::Generic);
}

TEST(StretchRule, StretchesNeverGrowShorterNorMoreThanTheMost) {
  for (const StretchRule& rule :
       {StretchRule{},
        StretchRule{.pages_min = 2, .pages_long = 32, .few_max = 4, .stretches_max = 32}}) {
    std::int32_t before = 0;
    for (std::int32_t position = 0; position < 300000; position += 61) {
      const std::int32_t length = stretch_pages(rule, position);
      EXPECT_GE(length, before);
      EXPECT_LE(stretch_count(rule, position), rule.stretches_max);
      before = length;
    }
  }
}

// A tile's rows are cut where the length changes, which is at a page's begin.
TEST(StretchRule, ItsLengthIsTheSameAllOverAPage) {
  const StretchRule rule;
  for (std::int32_t page = 0; page < 2000; ++page) {
    EXPECT_EQ(stretch_pages(rule, page * 64), stretch_pages(rule, page * 64 + 63));
  }
}

TEST(StretchRule, LengthsAreAsMeasured) {
  const StretchRule rule;
  EXPECT_EQ(stretch_pages(rule, 0), 2);
  EXPECT_EQ(stretch_count(rule, 511), 4);
  EXPECT_EQ(stretch_pages(rule, 512), 4);
  EXPECT_EQ(stretch_pages(rule, 1023), 4);
  EXPECT_EQ(stretch_pages(rule, 1024), 8);
  EXPECT_EQ(stretch_pages(rule, 16383), 8);
  EXPECT_EQ(stretch_pages(rule, 16384), 16);
  EXPECT_EQ(stretch_count(rule, 16383), 32);
}

TEST(AttentionCrew, FewRowsGetManySmallBlocksAndManyRowsLargeOnes) {
  const AttentionPlan plan = attention_plan(grouped(32, 4, 128));

  EXPECT_EQ(attention_crew(plan, 128, 132).groups, 1);
  EXPECT_EQ(attention_crew(plan, 128, 132).workers, 264);
  EXPECT_EQ(attention_crew(plan, 129, 132).groups, 2);
  EXPECT_EQ(attention_crew(plan, 129, 132).workers, 132);
}

TEST(AttentionTeams, FewRowsGetATeamEachAndManyNone) {
  const AttentionPlan plan = attention_plan(grouped(32, 4, 128));

  EXPECT_EQ(attention_teams(plan, 1, 132).size, 16);
  EXPECT_EQ(attention_teams(plan, 1, 132).teams, 4);
  EXPECT_EQ(attention_teams(plan, 4, 132).size, 8);
  EXPECT_EQ(attention_teams(plan, 4, 132).teams, 16);
  EXPECT_EQ(attention_teams(plan, 8, 132).size, 0);
}

TEST(PartialSlots, HoldAllStretchesOfOneRowAtLeast) {
  const AttentionPlan plan = attention_plan(grouped(32, 4, 128));

  EXPECT_EQ(partial_slots(plan, 0), 32);
  EXPECT_EQ(partial_slots(plan, 128), 128 * 32);
}

}  // namespace
}  // namespace pleiad::kernels::cuda
