#include "ep/route.h"

#include <algorithm>
#include <array>
#include <bit>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/random.h"
#include "kernels/tree_combine.h"
#include "tests/ep/placement_fixture.h"

namespace pleiad::ep {
namespace {

using testing::random_placement;

struct Found {
  std::int32_t holder;
  std::size_t first;
  std::size_t count;

  friend bool operator==(const Found&, const Found&) = default;
};

// DESIGN R3 word for word: a full binary tree over expert ids, [begin, begin + size) under a node;
// the highest nodes whose chosen experts all stand on one holder.
void walk_tree(
    std::span<const Route> routes,
    std::uint32_t begin,
    std::uint32_t size,
    bool leaves_only,
    std::vector<Found>& out
) {
  const auto below = [&](const Route& route) { return route.expert < begin; };
  const auto inside = [&](const Route& route) { return route.expert < begin + size; };
  const auto from = std::ranges::find_if_not(routes, below);
  const auto to = std::find_if_not(from, routes.end(), inside);
  if (from == to) return;
  const bool alone =
      std::all_of(from, to, [&](const Route& route) { return route.holder == from->holder; });
  if (size == 1 || (alone && !leaves_only)) {
    out.push_back(
        {from->holder,
         static_cast<std::size_t>(from - routes.begin()),
         static_cast<std::size_t>(to - from)}
    );
    return;
  }
  walk_tree(routes, begin, size / 2, leaves_only, out);
  walk_tree(routes, begin + size / 2, size / 2, leaves_only, out);
}

std::vector<Found> split(std::span<const Route> routes, bool leaves_only) {
  std::array<Node, kernels::kTopkMax> nodes{};
  const std::size_t count = split_into_nodes(routes, leaves_only, nodes);
  std::vector<Found> out;
  for (const Node& node : std::span(nodes).first(count)) {
    out.push_back({node.holder, node.first, node.count});
  }
  return out;
}

std::vector<std::int32_t> random_choices(Random& random, std::int32_t experts, std::size_t topk) {
  std::vector<std::int32_t> out;
  while (out.size() < topk) {
    const auto expert = static_cast<std::int32_t>(random.below(static_cast<std::size_t>(experts)));
    if (std::ranges::find(out, expert) == out.end()) out.push_back(expert);
  }
  std::ranges::sort(out);
  return out;
}

TEST(Route, NodesAreThoseOfTheTreeOverExpertIds) {
  constexpr std::uint64_t kSeed = 5150;
  SCOPED_TRACE("seed " + std::to_string(kSeed));
  Random random(kSeed);
  for (int round = 0; round < 5000; ++round) {
    const auto experts = static_cast<std::int32_t>(1 + random.below(300));
    const std::size_t most = std::min<std::size_t>(static_cast<std::size_t>(kernels::kTopkMax), 12);
    const std::size_t topk =
        1 + random.below(std::min<std::size_t>(most, static_cast<std::size_t>(experts)));
    const std::size_t ranks = 1 + random.below(5);
    std::vector<Route> routes;
    for (const std::int32_t expert : random_choices(random, experts, topk)) {
      routes.push_back(
          {static_cast<std::uint16_t>(expert), static_cast<std::uint16_t>(random.below(ranks))}
      );
    }
    for (const bool leaves_only : {false, true}) {
      std::vector<Found> expected;
      walk_tree(
          routes, 0, std::bit_ceil(static_cast<std::uint32_t>(experts)), leaves_only, expected
      );
      ASSERT_EQ(split(routes, leaves_only), expected) << "round " << round;
    }
  }
}

TEST(Route, NoChoicesHaveNoNodes) {
  EXPECT_TRUE(split({}, false).empty());
}

TEST(Route, AnExpertIsComputedAtHomeWhereItCanBeAndElsewhereByTheReplicaOfTheSpread) {
  // Expert 0 stands on ranks 0 and 2, expert 1 on rank 1, expert 2 on all three.
  const auto placement = plan::ExpertPlacement::make(3, {{0, 2}, {1, 2}, {2, 0}}).value();
  const std::vector<std::int32_t> experts = {0, 1, 2};
  const auto holders = [&](std::int32_t self, std::uint32_t spread) {
    std::array<Route, 3> routes{};
    pick_holders(experts, placement, self, spread, routes);
    std::vector<int> out;
    for (std::size_t k = 0; k < routes.size(); ++k) {
      EXPECT_EQ(routes[k].expert, experts[k]);
      out.push_back(routes[k].holder);
    }
    return out;
  };

  EXPECT_EQ(holders(0, 1), (std::vector<int>{0, 1, 0}));
  EXPECT_EQ(holders(2, 0), (std::vector<int>{2, 1, 2}));
  EXPECT_EQ(holders(1, 0), (std::vector<int>{0, 1, 1}));
  EXPECT_EQ(holders(1, 1), (std::vector<int>{2, 1, 1}));
}

// The most nodes that any row asks of one rank, over all rows of `topk` of the experts.
std::int64_t most_nodes(const plan::ExpertPlacement& placement, std::size_t topk) {
  std::int64_t most = 0;
  const std::uint32_t sets = 1U << static_cast<std::uint32_t>(placement.experts());
  for (std::uint32_t set = 0; set < sets; ++set) {
    if (static_cast<std::size_t>(std::popcount(set)) != topk) continue;
    std::vector<std::int32_t> experts;
    for (std::int32_t e = 0; e < placement.experts(); ++e) {
      if ((set >> static_cast<std::uint32_t>(e) & 1U) != 0) experts.push_back(e);
    }
    for (std::int32_t self = 0; self < placement.ranks(); ++self) {
      for (std::uint32_t spread = 0; spread < 4; ++spread) {
        std::vector<Route> routes(topk);
        pick_holders(experts, placement, self, spread, routes);
        std::vector<std::int64_t> asked(static_cast<std::size_t>(placement.ranks()));
        for (const Found& node : split(routes, false)) {
          most = std::max(most, ++asked[static_cast<std::size_t>(node.holder)]);
        }
      }
    }
  }
  return most;
}

TEST(Route, NoRowAsksARankForMoreNodesThanTheLimitSays) {
  constexpr std::uint64_t kSeed = 808;
  SCOPED_TRACE("seed " + std::to_string(kSeed));
  Random random(kSeed);
  for (int round = 0; round < 150; ++round) {
    const auto experts = static_cast<std::int32_t>(2 + random.below(9));
    const auto ranks = static_cast<std::int32_t>(1 + random.below(4));
    const std::size_t topk =
        1 + random.below(std::min<std::size_t>(5, static_cast<std::size_t>(experts)));
    const bool replicas = random.below(2) == 0;
    const auto placement = random_placement(random, experts, ranks, replicas);

    const std::int64_t limit = nodes_per_row_max(placement, static_cast<std::int64_t>(topk));

    ASSERT_LE(most_nodes(placement, topk), limit) << "round " << round;
    ASSERT_LE(limit, static_cast<std::int64_t>(topk));
  }
}

TEST(Route, ContiguousExpertsOnAPowerOfTwoOfRanksNeedOneNodeEach) {
  for (const std::int32_t ranks : {1, 2, 4, 8, 16}) {
    EXPECT_EQ(nodes_per_row_max(plan::ExpertPlacement::contiguous(64, ranks), 8), 1) << ranks;
  }
  // Experts 0..2 of the first of three ranks are blocks [0, 2) and [2, 3).
  EXPECT_EQ(nodes_per_row_max(plan::ExpertPlacement::contiguous(8, 3), 8), 2);
  EXPECT_EQ(nodes_per_row_max(plan::ExpertPlacement::contiguous(8, 3), 1), 1);
}

}  // namespace
}  // namespace pleiad::ep
