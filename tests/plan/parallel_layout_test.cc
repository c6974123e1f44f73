#include "plan/parallel_layout.h"

#include <set>
#include <string>
#include <tuple>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"

namespace pleiad::plan {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// {dp, tp, ep, moe_tp}
using Sizes = std::tuple<int, int, int, int>;

Sizes sizes(const LayoutRequest& request) {
  const auto layout = plan_layout(request);
  EXPECT_TRUE(layout.ok()) << (layout.ok() ? "" : layout.error().message);
  if (!layout.ok()) return {};
  return {layout->dp_size, layout->tp_size, layout->ep_size, layout->moe_tp_size};
}

std::string refusal(const LayoutRequest& request) {
  const auto layout = plan_layout(request);
  return layout.ok() ? "" : layout.error().message;
}

TEST(ParallelLayout, WhatWasGivenDeterminesTheRest) {
  EXPECT_EQ(sizes({}), Sizes(1, 1, 1, 1));
  EXPECT_EQ(sizes({.nnodes = 3}), Sizes(3, 1, 3, 1));
  EXPECT_EQ(sizes({.ep_size = 8}), Sizes(8, 1, 8, 1));
  EXPECT_EQ(sizes({.dp_size = 8}), Sizes(8, 1, 8, 1));
  EXPECT_EQ(sizes({.tp_size = 8}), Sizes(1, 8, 8, 1));
  EXPECT_EQ(sizes({.moe_tp_size = 2}), Sizes(2, 1, 1, 2));
  EXPECT_EQ(sizes({.dp_size = 8, .ep_size = 8}), Sizes(8, 1, 8, 1));
  EXPECT_EQ(sizes({.dp_size = 4, .ep_size = 8}), Sizes(4, 2, 8, 1));
  EXPECT_EQ(sizes({.dp_size = 8, .ep_size = 4}), Sizes(8, 1, 4, 2));
  EXPECT_EQ(sizes({.tp_size = 2, .ep_size = 8}), Sizes(4, 2, 8, 1));
  EXPECT_EQ(sizes({.tp_size = 2, .dp_size = 4}), Sizes(4, 2, 8, 1));
  EXPECT_EQ(sizes({.ep_size = 4, .moe_tp_size = 2}), Sizes(8, 1, 4, 2));
  EXPECT_EQ(sizes({.tp_size = 2, .ep_size = 4, .moe_tp_size = 2}), Sizes(4, 2, 4, 2));
  EXPECT_EQ(sizes({.tp_size = 1, .dp_size = 8, .moe_tp_size = 2}), Sizes(8, 1, 4, 2));
}

TEST(ParallelLayout, SizesOutOfRangeAreRefusedWithTheNearest) {
  EXPECT_THAT(refusal({.ep_size = 0}), AllOf(HasSubstr("ep_size is 0"), HasSubstr("value 1")));
  EXPECT_THAT(refusal({.tp_size = -1}), HasSubstr("tp_size is -1"));
  EXPECT_THAT(refusal({.dp_size = 5000}), HasSubstr("nearest valid value 4096"));
  EXPECT_THAT(refusal({.tp_size = 4096, .dp_size = 4096}), HasSubstr("16777216 ranks"));
  EXPECT_THAT(refusal({.nnodes = 0}), HasSubstr("nnodes is 0"));
}

TEST(ParallelLayout, ContradictionsAreRefusedWithTheNearest) {
  EXPECT_THAT(
      refusal({.tp_size = 2, .dp_size = 4, .ep_size = 4, .moe_tp_size = 1}),
      AllOf(
          HasSubstr("ep_size 4 x moe_tp_size 1 are 4 ranks"),
          HasSubstr("dp_size * tp_size must equal ep_size * moe_tp_size")
      )
  );
  EXPECT_THAT(
      refusal({.tp_size = 3, .ep_size = 8}),
      AllOf(HasSubstr("tp_size 3 does not divide the 8 ranks"), HasSubstr("2 and 4"))
  );
  EXPECT_THAT(refusal({.dp_size = 6, .ep_size = 4}), HasSubstr("nearest valid: 3 and 6"));
  EXPECT_THAT(
      refusal({.tp_size = 2, .dp_size = 2, .ep_size = 8}),
      AllOf(HasSubstr("ep_size 8 does not divide the 4 ranks"), HasSubstr("nearest valid: 4"))
  );
}

TEST(ParallelLayout, NodesTakeEqualShares) {
  EXPECT_THAT(
      refusal({.ep_size = 8, .nnodes = 3}),
      AllOf(HasSubstr("8 ranks cannot be spread evenly over 3 nodes"), HasSubstr("2 and 4"))
  );
  EXPECT_THAT(
      refusal({.ep_size = 8, .nnodes = 2, .node_rank = 2}), HasSubstr("nearest valid value 1")
  );
  EXPECT_THAT(refusal({.node_rank = -1}), HasSubstr("nearest valid value 0"));
  const auto layout = plan_layout({.ep_size = 8, .nnodes = 2, .node_rank = 1}).value();
  EXPECT_EQ(layout.ranks_per_node(), 4);
  EXPECT_EQ(layout.ranks_of_node(1).first, 4);
  EXPECT_EQ(layout.ranks_of_node(1).count, 4);
}

TEST(ParallelLayout, NeighboursShareTensorParallelGroups) {
  const auto layout =
      plan_layout({.tp_size = 4, .dp_size = 2, .ep_size = 4, .moe_tp_size = 2, .nnodes = 2})
          .value();

  const RankPlace place = layout.place(5);

  EXPECT_EQ(place.node, 1);
  EXPECT_EQ(place.dp_rank, 1);
  EXPECT_EQ(place.tp_rank, 1);
  EXPECT_EQ(place.ep_rank, 2);
  EXPECT_EQ(place.moe_tp_shard, 1);
}

TEST(ParallelLayout, EveryLayoutPlacesEveryRankOnce) {
  const std::uint64_t seed = entropy_seed();
  SCOPED_TRACE("seed " + std::to_string(seed));
  Random random(seed);
  const auto maybe = [&random]() -> std::optional<std::int32_t> {
    if (random.below(2) == 0) return std::nullopt;
    return static_cast<std::int32_t>(std::int64_t{1} << random.below(5));
  };
  int planned = 0;
  for (int round = 0; round < 2000; ++round) {
    const LayoutRequest request{
        .tp_size = maybe(),
        .dp_size = maybe(),
        .ep_size = maybe(),
        .moe_tp_size = maybe(),
        .nnodes = static_cast<std::int32_t>(random.between(1, 4))};
    const auto layout = plan_layout(request);
    if (!layout.ok()) continue;
    ++planned;
    ASSERT_EQ(layout->dp_size * layout->tp_size, layout->ep_size * layout->moe_tp_size);
    ASSERT_EQ(layout->tp_size, request.tp_size.value_or(layout->tp_size));
    ASSERT_EQ(layout->dp_size, request.dp_size.value_or(layout->dp_size));
    ASSERT_EQ(layout->ep_size, request.ep_size.value_or(layout->ep_size));
    ASSERT_EQ(layout->moe_tp_size, request.moe_tp_size.value_or(layout->moe_tp_size));
    std::set<std::pair<int, int>> attention;
    std::set<std::pair<int, int>> experts;
    for (std::int32_t rank = 0; rank < layout->ranks(); ++rank) {
      const RankPlace place = layout->place(rank);
      attention.emplace(place.dp_rank, place.tp_rank);
      experts.emplace(place.ep_rank, place.moe_tp_shard);
      ASSERT_EQ(layout->rank_of(place.ep_rank, place.moe_tp_shard), rank);
      const RankRange range = layout->ranks_of_node(place.node);
      ASSERT_TRUE(rank >= range.first && rank < range.first + range.count);
    }
    ASSERT_EQ(attention.size(), static_cast<std::size_t>(layout->ranks()));
    ASSERT_EQ(experts.size(), static_cast<std::size_t>(layout->ranks()));
  }
  EXPECT_GT(planned, 100);
}

TEST(CheckModel, MoeTpDividesThePartialSumsAndTpTheHeads) {
  const ModelFacts facts{.name = "fable", .attention_heads = 12, .expert_partial_sums = 4};
  const auto message = [&facts](const LayoutRequest& request) {
    const auto checked = check_model(plan_layout(request).value(), facts);
    return checked.ok() ? "" : checked.error().message;
  };

  EXPECT_EQ(message({.moe_tp_size = 2}), "");
  EXPECT_THAT(
      message({.moe_tp_size = 3}), AllOf(HasSubstr("4 partial sums"), HasSubstr("2 and 4"))
  );
  EXPECT_THAT(message({.moe_tp_size = 8}), HasSubstr("nearest valid: 4"));
  EXPECT_THAT(
      message({.tp_size = 8}), AllOf(HasSubstr("12 attention heads"), HasSubstr("6 and 12"))
  );
}

TEST(CheckHeads, TpDividesTheHeadsOfKeysAndValuesOrCopiesThem) {
  EXPECT_TRUE(check_heads(4, 32, 4).ok());
  EXPECT_TRUE(check_heads(2, 32, 4).ok());
  EXPECT_TRUE(check_heads(8, 32, 4).ok());
  EXPECT_TRUE(check_heads(16, 128, 0).ok());
  EXPECT_THAT(
      check_heads(3, 32, 4).error().message,
      HasSubstr("tp_size is 3; it must divide the 32 attention heads, nearest valid: 2 and 4")
  );
  EXPECT_THAT(
      check_heads(4, 12, 6).error().message,
      HasSubstr("the 6 heads of keys and values or be a multiple of them, nearest valid: 3 and 6")
  );
}

TEST(CheckModel, MoreRanksThanExpertsAreAllowed) {
  EXPECT_TRUE(check_model(plan_layout({.ep_size = 64}).value(), {.experts = 32}).ok());
}

}  // namespace
}  // namespace pleiad::plan
