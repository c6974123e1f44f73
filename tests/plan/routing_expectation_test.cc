#include "plan/routing_expectation.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"

namespace pleiad::plan {
namespace {

using testing::ElementsAre;

// The rank that holds all chosen experts of ids [begin, begin + size); -1: none chosen, -2:
// several.
int owner(const ExpertPlacement& placement, std::uint32_t chosen, int begin, int size) {
  int found = -1;
  for (int expert = begin; expert < std::min(begin + size, placement.experts()); ++expert) {
    if ((chosen >> static_cast<unsigned>(expert) & 1U) == 0) continue;
    const int home = placement.holders(expert).front();
    if (found != -1 && found != home) return -2;
    found = home;
  }
  return found;
}

struct Count {
  std::vector<double> reach;
  std::vector<double> rows;
  std::vector<std::int64_t> rows_max;
};

// A bit for each expert of the groups whose bits are set.
std::uint32_t experts_of(std::uint32_t groups, int experts, int count) {
  std::uint32_t out = 0;
  for (int expert = 0; expert < experts; ++expert) {
    const auto group = static_cast<unsigned>(expert / (experts / count));
    out |= (groups >> group & 1U) << static_cast<unsigned>(expert);
  }
  return out;
}

// All choices of groups and of topk experts of theirs, one by one.
Count count_all(const ExpertPlacement& placement, const RoutingShape& shape) {
  const auto ranks = static_cast<std::size_t>(placement.ranks());
  Count out{std::vector<double>(ranks), std::vector<double>(ranks), {}};
  out.rows_max.resize(ranks);
  double choices = 0;
  int width = 1;
  while (width < placement.experts())
    width *= 2;
  const auto groups = static_cast<int>(shape.groups);
  const std::uint32_t last = 1U << static_cast<unsigned>(placement.experts() + groups);
  for (std::uint32_t both = 0; both < last; ++both) {
    const std::uint32_t chosen = both >> static_cast<unsigned>(groups);
    const std::uint32_t chosen_groups = both & ((1U << static_cast<unsigned>(groups)) - 1U);
    if (std::popcount(chosen) != shape.topk) continue;
    if (std::popcount(chosen_groups) != shape.groups_chosen) continue;
    if ((chosen & ~experts_of(chosen_groups, placement.experts(), groups)) != 0) continue;
    ++choices;
    std::vector<std::int64_t> rows(ranks);
    for (int size = 1; size <= width; size *= 2) {
      for (int begin = 0; begin < placement.experts(); begin += size) {
        const int here = owner(placement, chosen, begin, size);
        if (here < 0) continue;
        const int above = begin / (2 * size) * (2 * size);
        if (size < width && owner(placement, chosen, above, 2 * size) == here) continue;
        ++rows[static_cast<std::size_t>(here)];
      }
    }
    for (std::size_t rank = 0; rank < ranks; ++rank) {
      out.reach[rank] += rows[rank] > 0 ? 1 : 0;
      out.rows[rank] += static_cast<double>(rows[rank]);
      out.rows_max[rank] = std::max(out.rows_max[rank], rows[rank]);
    }
  }
  for (std::size_t rank = 0; rank < ranks; ++rank) {
    out.reach[rank] /= choices;
    out.rows[rank] /= choices;
  }
  return out;
}

ExpertPlacement random_placement(Random& random, int experts, int ranks) {
  std::vector<std::vector<std::int32_t>> slots(static_cast<std::size_t>(ranks));
  for (int expert = 0; expert < experts; ++expert)
    slots[random.below(slots.size())].push_back(expert);
  return ExpertPlacement::make(experts, std::move(slots)).value();
}

TEST(RoutingExpectation, EqualsTheCountOverAllChoices) {
  const std::uint64_t seed = entropy_seed();
  SCOPED_TRACE("seed " + std::to_string(seed));
  Random random(seed);
  for (int round = 0; round < 60; ++round) {
    const int groups = static_cast<int>(random.between(1, 4));
    const int chosen = static_cast<int>(random.between(1, groups));
    const int group_experts = static_cast<int>(random.between(1, 11 / groups));
    const int experts = groups * group_experts;
    const int topk = static_cast<int>(random.between(1, chosen * group_experts));
    const RoutingShape shape{.topk = topk, .groups = groups, .groups_chosen = chosen};
    const int ranks = static_cast<int>(random.between(1, 5));
    const auto placement = random.below(2) == 0 ? ExpertPlacement::contiguous(experts, ranks)
                                                : random_placement(random, experts, ranks);
    const Count count = count_all(placement, shape);
    const auto expected = expect_uniform_routing(placement, shape);
    for (std::size_t rank = 0; rank < static_cast<std::size_t>(ranks); ++rank) {
      ASSERT_NEAR(expected.reach[rank], count.reach[rank], 1e-9);
      ASSERT_NEAR(expected.return_rows[rank], count.rows[rank], 1e-9);
      ASSERT_GE(expected.return_rows_max[rank], count.rows_max[rank]);
      ASSERT_LE(expected.return_rows_max[rank], topk);
    }
  }
}

TEST(RoutingExpectation, AlignedRanksReturnOneRowForEachTokenTheyReceive) {
  for (const int ranks : {1, 2, 4, 8, 16, 32}) {
    const auto expected =
        expect_uniform_routing(ExpertPlacement::contiguous(256, ranks), {.topk = 8});
    EXPECT_NEAR(expected.rows_returned(), expected.ranks_reached(), 1e-9) << ranks;
    EXPECT_THAT(expected.return_rows_max, testing::Each(1)) << ranks;
  }
}

TEST(RoutingExpectation, UnalignedRanksReturnMore) {
  const auto expected = expect_uniform_routing(ExpertPlacement::contiguous(32, 3), {.topk = 4});

  EXPECT_GT(expected.rows_returned(), expected.ranks_reached());
  EXPECT_THAT(expected.return_rows_max, ElementsAre(3, 4, 2));
}

TEST(RoutingExpectation, KnownValues) {
  // 8 ranks of 32 experts: 8 * (1 - C(224, 8) / C(256, 8)).
  const auto eight = expect_uniform_routing(ExpertPlacement::contiguous(256, 8), {.topk = 8});
  EXPECT_NEAR(eight.ranks_reached(), 5.29465, 1e-5);
  const auto one = expect_uniform_routing(ExpertPlacement::contiguous(4, 1), {.topk = 2});
  EXPECT_DOUBLE_EQ(one.ranks_reached(), 1.0);
  EXPECT_DOUBLE_EQ(one.rows_returned(), 1.0);
}

TEST(RoutingExpectation, ATokenOfTwoGroupsReachesTheirRanksOnly) {
  // Four groups on four ranks, two of them chosen: 2 * (1 - C(8, 4) / C(16, 4)).
  const auto expected = expect_uniform_routing(
      ExpertPlacement::contiguous(32, 4), {.topk = 4, .groups = 4, .groups_chosen = 2}
  );
  EXPECT_NEAR(expected.ranks_reached(), 2.0 * (1.0 - 70.0 / 1820.0), 1e-12);
}

TEST(RoutingExpectation, RanksWithoutExpertsTakeNoPart) {
  const auto expected = expect_uniform_routing(ExpertPlacement::contiguous(2, 3), {.topk = 2});

  EXPECT_THAT(expected.reach, ElementsAre(1.0, 1.0, 0.0));
  EXPECT_THAT(expected.return_rows_max, ElementsAre(1, 1, 0));
}

}  // namespace
}  // namespace pleiad::plan
