#pragma once

#include <cstdint>
#include <vector>

#include "plan/expert_placement.h"
#include "plan/model_facts.h"

namespace pleiad::plan {

// How many experts a token chooses, and from where: with groups > 1, from groups_chosen of so many
// equal groups of neighbouring experts (device-limited routing, DeepSeek-V2, arXiv 2405.04434,
// 2.2.2).
struct RoutingShape {
  std::int64_t topk = 1;
  std::int64_t groups = 1;
  std::int64_t groups_chosen = 1;
};

inline RoutingShape routing_of(const ModelFacts& facts) {
  return {
      .topk = facts.topk, .groups = facts.expert_groups, .groups_chosen = facts.groups_per_token};
}

// What one token of one layer costs in traffic when its groups, and its distinct experts among
// theirs, are drawn uniformly. An expert with replicas counts at its first holder. Exact, not
// sampled.
struct RoutingExpectation {
  // [ranks]: probability that one of the token's experts stands there (level 2 sends a row there).
  std::vector<double> reach;
  // [ranks]: rows that the rank is expected to send back: the maximal nodes of the fixed tree over
  // expert ids (DESIGN R3) under which all of the token's experts stand there.
  std::vector<double> return_rows;
  // [ranks]: the most it ever sends back for one token.
  std::vector<std::int64_t> return_rows_max;

  [[nodiscard]] double ranks_reached() const;  // sum of reach
  [[nodiscard]] double rows_returned() const;  // sum of return_rows
};

// Groups beyond this are reckoned with as if there were none.
inline constexpr std::int64_t kRoutingGroupsMax = 16;

// REQUIRES: groups divides placement.experts(), 1 <= groups_chosen <= groups, and the chosen groups
// have topk >= 1 experts. Takes time of order experts * log(experts) for each choice of groups.
RoutingExpectation
expect_uniform_routing(const ExpertPlacement& placement, const RoutingShape& shape);

}  // namespace pleiad::plan
