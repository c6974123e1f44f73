#include "plan/expert_placement.h"

#include <algorithm>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"

namespace pleiad::plan {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

using Slots = std::vector<std::vector<std::int32_t>>;

std::string refusal(std::int32_t experts, Slots slots) {
  const auto placement = ExpertPlacement::make(experts, std::move(slots));
  if (placement.ok()) return "";
  EXPECT_EQ(placement.error().kind, ErrorKind::InvalidInput);
  return placement.error().message;
}

// Every expert once at least, and replicas at random.
Slots random_slots(Random& random, std::int32_t experts, std::int32_t ranks) {
  Slots slots(static_cast<std::size_t>(ranks));
  for (std::int32_t expert = 0; expert < experts; ++expert) {
    const std::size_t home = random.below(static_cast<std::uint64_t>(ranks));
    for (std::size_t rank = 0; rank < slots.size(); ++rank) {
      if (rank == home || random.below(5) == 0) slots[rank].push_back(expert);
    }
  }
  for (auto& list : slots) {
    for (std::size_t i = list.size(); i > 1; --i)
      std::swap(list[i - 1], list[random.below(i)]);
  }
  return slots;
}

TEST(ExpertPlacement, KeepsSlotsInTheirOrderAndHoldersAscending) {
  const auto placement = ExpertPlacement::make(3, {{2, 0}, {1}, {2, 1}}).value();

  EXPECT_EQ(placement.ranks(), 3);
  EXPECT_EQ(placement.experts(), 3);
  EXPECT_THAT(placement.slots(0), ElementsAre(2, 0));
  EXPECT_THAT(placement.holders(2), ElementsAre(0, 2));
  EXPECT_THAT(placement.holders(1), ElementsAre(1, 2));
  EXPECT_TRUE(placement.holds(2, 2));
  EXPECT_FALSE(placement.holds(1, 0));
}

TEST(ExpertPlacement, ARankMayHoldNothing) {
  const auto placement = ExpertPlacement::make(1, {{}, {0}}).value();

  EXPECT_TRUE(placement.slots(0).empty());
  EXPECT_THAT(placement.holders(0), ElementsAre(1));
}

TEST(ExpertPlacement, RefusesAndNamesTheExpert) {
  EXPECT_THAT(refusal(3, {{0}, {2}}), HasSubstr("no rank holds expert 1"));
  EXPECT_THAT(refusal(2, {{0, 1}, {2}}), HasSubstr("rank 1 holds expert 2; experts are 0 to 1"));
  EXPECT_THAT(refusal(2, {{0, 1, -1}}), HasSubstr("expert -1"));
  EXPECT_THAT(refusal(2, {{0, 1, 0}}), HasSubstr("rank 0 holds expert 0 twice"));
  EXPECT_THAT(refusal(0, {{}}), HasSubstr("at least 1"));
  EXPECT_THAT(refusal(1, {}), HasSubstr("0 ranks"));
}

TEST(ExpertPlacement, ContiguousGivesTheFirstRanksOneMore) {
  const auto placement = ExpertPlacement::contiguous(7, 3);

  EXPECT_THAT(placement.slots(0), ElementsAre(0, 1, 2));
  EXPECT_THAT(placement.slots(1), ElementsAre(3, 4));
  EXPECT_THAT(placement.slots(2), ElementsAre(5, 6));
}

TEST(ExpertPlacement, ContiguousLeavesRanksBeyondTheExpertsEmpty) {
  const auto placement = ExpertPlacement::contiguous(2, 4);

  EXPECT_THAT(placement.slots(1), ElementsAre(1));
  EXPECT_TRUE(placement.slots(2).empty());
  EXPECT_TRUE(placement.slots(3).empty());
}

TEST(ExpertPlacement, ContiguousIsEvenAndInOrderForAllSizes) {
  for (std::int32_t experts = 1; experts <= 40; ++experts) {
    for (std::int32_t ranks = 1; ranks <= 48; ++ranks) {
      const auto placement = ExpertPlacement::contiguous(experts, ranks);
      std::int32_t next = 0;
      for (std::int32_t rank = 0; rank < ranks; ++rank) {
        const auto count = static_cast<std::int32_t>(placement.slots(rank).size());
        ASSERT_EQ(count, experts / ranks + (rank < experts % ranks ? 1 : 0));
        for (const std::int32_t expert : placement.slots(rank))
          ASSERT_EQ(expert, next++);
      }
      ASSERT_EQ(next, experts);
    }
  }
}

TEST(ExpertPlacement, SlotsHoldersAndHoldsAgreeForRandomPlacements) {
  const std::uint64_t seed = entropy_seed();
  SCOPED_TRACE("seed " + std::to_string(seed));
  Random random(seed);
  for (int round = 0; round < 200; ++round) {
    const auto experts = static_cast<std::int32_t>(random.between(1, 40));
    const auto ranks = static_cast<std::int32_t>(random.between(1, 12));
    const auto placement =
        ExpertPlacement::make(experts, random_slots(random, experts, ranks)).value();
    for (std::int32_t expert = 0; expert < experts; ++expert) {
      const auto holders = placement.holders(expert);
      ASSERT_FALSE(holders.empty());
      ASSERT_TRUE(std::is_sorted(holders.begin(), holders.end()));
      for (std::int32_t rank = 0; rank < ranks; ++rank) {
        const auto slots = placement.slots(rank);
        const bool in_slots = std::find(slots.begin(), slots.end(), expert) != slots.end();
        const bool in_holders = std::find(holders.begin(), holders.end(), rank) != holders.end();
        ASSERT_EQ(in_slots, in_holders);
        ASSERT_EQ(in_slots, placement.holds(rank, expert));
      }
    }
  }
}

}  // namespace
}  // namespace pleiad::plan
