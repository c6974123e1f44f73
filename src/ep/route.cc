#include "ep/route.h"

#include <algorithm>
#include <bit>

#include "base/check.h"

namespace pleiad::ep {
namespace {

bool one_holder(std::span<const Route> routes) {
  return std::ranges::all_of(routes, [&](const Route& route) {
    return route.holder == routes.front().holder;
  });
}

// Where the node over these (two or more, distinct, ascending) experts divides: the first one in
// its upper half.
std::size_t middle_of(std::span<const Route> routes) {
  const unsigned differing =
      static_cast<unsigned>(routes.front().expert) ^ static_cast<unsigned>(routes.back().expert);
  const unsigned bit = std::bit_floor(differing);
  const auto middle =
      std::ranges::find_if(routes, [&](const Route& route) { return (route.expert & bit) != 0U; });
  return static_cast<std::size_t>(middle - routes.begin());
}

struct Splitter {
  std::span<const Route> routes;
  bool leaves_only;
  std::span<Node> nodes;
  std::size_t count = 0;

  // Depth is at most the bits of an expert id.
  void split(std::size_t begin, std::size_t end) {  // NOLINT(misc-no-recursion)
    const auto part = routes.subspan(begin, end - begin);
    if (part.size() == 1 || (!leaves_only && one_holder(part))) {
      nodes[count++] = {
          .holder = part.front().holder,
          .first = static_cast<std::uint8_t>(begin),
          .count = static_cast<std::uint8_t>(part.size()),
      };
      return;
    }
    const std::size_t middle = begin + middle_of(part);
    split(begin, middle);
    split(middle, end);
  }
};

// Blocks [a * 2^k, (a + 1) * 2^k) that a sorted set of experts falls into, as large as they go.
std::int64_t aligned_blocks(std::span<const std::int32_t> experts) {
  std::int64_t blocks = 0;
  for (std::size_t i = 0; i < experts.size();) {
    std::size_t size = 1;
    while (static_cast<std::size_t>(experts[i]) % (2 * size) == 0 &&
           i + 2 * size <= experts.size() &&
           experts[i + 2 * size - 1] == experts[i] + static_cast<std::int32_t>(2 * size) - 1) {
      size *= 2;
    }
    i += size;
    ++blocks;
  }
  return blocks;
}

}  // namespace

void pick_holders(
    std::span<const std::int32_t> experts,
    const plan::ExpertPlacement& placement,
    std::int32_t self,
    std::uint32_t spread,
    std::span<Route> routes
) {
  PLEIAD_CHECK(routes.size() >= experts.size());
  for (std::size_t k = 0; k < experts.size(); ++k) {
    const auto holders = placement.holders(experts[k]);
    std::int32_t holder = holders[spread % holders.size()];
    if (holders.size() > 1 && placement.holds(self, experts[k])) holder = self;
    routes[k] = {
        .expert = static_cast<std::uint16_t>(experts[k]),
        .holder = static_cast<std::uint16_t>(holder),
    };
  }
}

std::size_t
split_into_nodes(std::span<const Route> routes, bool leaves_only, std::span<Node> nodes) {
  PLEIAD_CHECK(nodes.size() >= routes.size());
  if (routes.empty()) return 0;
  Splitter splitter{.routes = routes, .leaves_only = leaves_only, .nodes = nodes};
  splitter.split(0, routes.size());
  return splitter.count;
}

// Without replicas the ranks' experts are fixed, and a node is never smaller than the row's part of
// an aligned block; with them, neighbours may be computed elsewhere.
std::int64_t nodes_per_row_max(const plan::ExpertPlacement& placement, std::int64_t topk) {
  std::int64_t most = 1;
  for (std::int32_t rank = 0; rank < placement.ranks(); ++rank) {
    const auto slots = placement.slots(rank);
    std::vector<std::int32_t> experts(slots.begin(), slots.end());
    std::ranges::sort(experts);
    const bool replicated = std::ranges::any_of(experts, [&](std::int32_t expert) {
      return placement.holders(expert).size() > 1;
    });
    const auto count = static_cast<std::int64_t>(experts.size());
    most = std::max(most, replicated ? count : aligned_blocks(experts));
  }
  return std::min(most, topk);
}

}  // namespace pleiad::ep
