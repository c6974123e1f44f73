#include "plan/routing_expectation.h"

#include <algorithm>
#include <bit>
#include <numeric>
#include <utility>

namespace pleiad::plan {
namespace {

// Experts of one rank under a node.
struct Share {
  std::int32_t rank = 0;
  std::int64_t experts = 0;
};

// A node of the binary tree over expert ids, as far as its experts can be chosen: shares ascending
// by rank.
struct Node {
  std::int64_t experts = 0;
  std::vector<Share> shares;

  [[nodiscard]] std::int64_t held_by(std::int32_t rank) const {
    const auto found =
        std::lower_bound(shares.begin(), shares.end(), rank, [](const Share& share, int wanted) {
          return share.rank < wanted;
        });
    return found != shares.end() && found->rank == rank ? found->experts : 0;
  }
};

Node joined(const Node& left, const Node& right) {
  Node out{.experts = left.experts + right.experts};
  auto l = left.shares.begin();
  auto r = right.shares.begin();
  while (l != left.shares.end() || r != right.shares.end()) {
    const bool from_left =
        r == right.shares.end() || (l != left.shares.end() && l->rank <= r->rank);
    const Share next = from_left ? *l++ : *r++;
    if (!out.shares.empty() && out.shares.back().rank == next.rank) {
      out.shares.back().experts += next.experts;
    } else {
      out.shares.push_back(next);
    }
  }
  return out;
}

// `groups`: a bit for each group whose experts can be chosen, all of them `group_experts` wide.
std::vector<Node>
leaves(const ExpertPlacement& placement, std::uint32_t groups, std::int32_t group_experts) {
  std::vector<Node> out;
  out.reserve(static_cast<std::size_t>(placement.experts()));
  for (std::int32_t expert = 0; expert < placement.experts(); ++expert) {
    const auto group = static_cast<std::uint32_t>(expert / group_experts);
    if ((groups >> group & 1U) == 0) {
      out.emplace_back();
      continue;
    }
    out.push_back({.experts = 1, .shares = {{placement.holders(expert).front(), 1}}});
  }
  return out;
}

std::vector<Node> parents(const std::vector<Node>& nodes) {
  std::vector<Node> out;
  for (std::size_t i = 0; i < nodes.size(); i += 2) {
    out.push_back(i + 1 < nodes.size() ? joined(nodes[i], nodes[i + 1]) : nodes[i]);
  }
  return out;
}

class Expectation {
 public:
  // `experts` can be chosen.
  Expectation(std::int32_t ranks_count, std::int64_t experts, std::int64_t topk)
      : experts_(experts), topk_(topk) {
    const auto ranks = static_cast<std::size_t>(ranks_count);
    out_.reach.assign(ranks, 0.0);
    out_.return_rows.assign(ranks, 0.0);
    out_.return_rows_max.assign(ranks, 0);
  }

  void add_root(const Node& root) {
    for (const Share& share : root.shares) {
      const auto rank = static_cast<std::size_t>(share.rank);
      out_.reach[rank] = 1.0 - all_within(experts_ - share.experts);
      out_.return_rows[rank] += whole(root, share.experts);
      if (share.experts == root.experts) ++out_.return_rows_max[rank];
    }
  }

  // A node counts when its chosen experts stand on one rank and its parent's do not. The first
  // implies the second's opposite unless the parent is whole while this node is not empty.
  void add_child(const Node& node, const Node& parent) {
    const std::int64_t outside = experts_ - parent.experts;
    for (const Share& share : node.shares) {
      const auto rank = static_cast<std::size_t>(share.rank);
      const std::int64_t held = parent.held_by(share.rank);
      const double parent_whole =
          all_within(outside + held) - all_within(outside + held - share.experts);
      out_.return_rows[rank] += whole(node, share.experts) - parent_whole;
      if (share.experts == node.experts && held < parent.experts) ++out_.return_rows_max[rank];
    }
  }

  RoutingExpectation take() {
    for (std::int64_t& rows : out_.return_rows_max) {
      rows = std::min(rows, topk_);
    }
    return std::move(out_);
  }

 private:
  // Probability that all choices fall into `allowed` given experts:
  // C(allowed, topk) / C(experts, topk).
  [[nodiscard]] double all_within(std::int64_t allowed) const {
    double probability = 1.0;
    for (std::int64_t i = 0; i < topk_; ++i) {
      if (allowed <= i) return 0.0;
      probability *= static_cast<double>(allowed - i) / static_cast<double>(experts_ - i);
    }
    return probability;
  }

  // Probability that a choice falls under `node`, and all that do fall to one rank holding `held`.
  [[nodiscard]] double whole(const Node& node, std::int64_t held) const {
    const std::int64_t outside = experts_ - node.experts;
    return all_within(outside + held) - all_within(outside);
  }

  std::int64_t experts_;
  std::int64_t topk_;
  RoutingExpectation out_;
};

}  // namespace

double RoutingExpectation::ranks_reached() const {
  return std::accumulate(reach.begin(), reach.end(), 0.0);
}

double RoutingExpectation::rows_returned() const {
  return std::accumulate(return_rows.begin(), return_rows.end(), 0.0);
}

namespace {

// Of tokens that have chosen `groups`.
RoutingExpectation expect_within(
    const ExpertPlacement& placement,
    std::int64_t topk,
    std::uint32_t groups,
    std::int32_t group_experts
) {
  const std::int64_t experts = std::int64_t{std::popcount(groups)} * group_experts;
  Expectation expectation(placement.ranks(), experts, topk);
  std::vector<Node> level = leaves(placement, groups, group_experts);
  while (level.size() > 1) {
    std::vector<Node> above = parents(level);
    for (std::size_t i = 0; i < level.size(); ++i) {
      // A node without a sibling is its parent.
      if (i + 1 == level.size() && i % 2 == 0) continue;
      expectation.add_child(level[i], above[i / 2]);
    }
    level = std::move(above);
  }
  expectation.add_root(level.front());
  return expectation.take();
}

// sum += part, of one choice of groups.
void add(RoutingExpectation& sum, const RoutingExpectation& part) {
  for (std::size_t rank = 0; rank < sum.reach.size(); ++rank) {
    sum.reach[rank] += part.reach[rank];
    sum.return_rows[rank] += part.return_rows[rank];
    sum.return_rows_max[rank] = std::max(sum.return_rows_max[rank], part.return_rows_max[rank]);
  }
}

}  // namespace

RoutingExpectation
expect_uniform_routing(const ExpertPlacement& placement, const RoutingShape& shape) {
  const bool grouped = shape.groups > 1 && shape.groups <= kRoutingGroupsMax;
  const auto groups = static_cast<std::uint32_t>(grouped ? shape.groups : 1);
  const int chosen = grouped ? static_cast<int>(shape.groups_chosen) : 1;
  const std::int32_t group_experts = placement.experts() / static_cast<std::int32_t>(groups);
  PLEIAD_CHECK(chosen >= 1 && chosen <= static_cast<int>(groups), "groups are chosen among them");
  PLEIAD_CHECK(placement.experts() % static_cast<std::int32_t>(groups) == 0, "groups are equal");
  PLEIAD_CHECK(
      shape.topk >= 1 && shape.topk <= std::int64_t{chosen} * group_experts,
      "a token chooses distinct experts"
  );
  const auto ranks = static_cast<std::size_t>(placement.ranks());
  RoutingExpectation sum{
      .reach = std::vector<double>(ranks),
      .return_rows = std::vector<double>(ranks),
      .return_rows_max = std::vector<std::int64_t>(ranks)};
  double choices = 0.0;
  for (std::uint32_t subset = 1; subset < 1U << groups; ++subset) {
    if (std::popcount(subset) != chosen) continue;
    add(sum, expect_within(placement, shape.topk, subset, group_experts));
    ++choices;
  }
  for (std::size_t rank = 0; rank < ranks; ++rank) {
    sum.reach[rank] /= choices;
    sum.return_rows[rank] /= choices;
  }
  return sum;
}

}  // namespace pleiad::plan
