#pragma once

#include <cstdint>
#include <vector>

#include "plan/expert_placement.h"

namespace pleiad::plan {

// What one token of one layer costs in traffic when its topk distinct experts are drawn uniformly.
// An expert with replicas counts at its first holder. Exact, not sampled. A gate that limits
// choices to groups reaches fewer ranks than this.
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

// REQUIRES: 1 <= topk <= placement.experts(). Takes time of order experts * log(experts).
RoutingExpectation expect_uniform_routing(const ExpertPlacement& placement, std::int64_t topk);

}  // namespace pleiad::plan
