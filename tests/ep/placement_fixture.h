#pragma once

#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include "base/random.h"
#include "plan/expert_placement.h"

namespace pleiad::ep::testing {

// Every expert on a random rank, in random order; with `replicas` a third on further ranks too.
inline plan::ExpertPlacement
random_placement(Random& random, std::int32_t experts, std::int32_t ranks, bool replicas = true) {
  std::vector<std::vector<std::int32_t>> slots(static_cast<std::size_t>(ranks));
  std::vector<std::int32_t> order(static_cast<std::size_t>(experts));
  std::iota(order.begin(), order.end(), 0);
  for (std::size_t i = order.size(); i > 1; --i) {
    std::swap(order[i - 1], order[random.below(i)]);
  }
  for (const std::int32_t expert : order) {
    const std::size_t home = random.below(slots.size());
    slots[home].push_back(expert);
    const std::size_t other = random.below(slots.size());
    if (replicas && other != home && random.below(3) == 0) slots[other].push_back(expert);
  }
  return plan::ExpertPlacement::make(experts, std::move(slots)).value();
}

}  // namespace pleiad::ep::testing
