#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "router/policy.h"
#include "router/worker_table.h"

namespace pleiad::router {

// A request that somebody wonders about.
struct RouteQuestion {
  std::int64_t prompt_tokens = 0;
  std::span<const std::uint64_t> keys;  // of the prompt (prefix_keys)
  std::string_view session;             // empty: none
};

// How choices are made.
struct RoutePolicies {
  const Policy* policy = nullptr;          // of the unit that answers
  const Policy* prefill_policy = nullptr;  // of the one that computes the prompt for it
  std::int64_t prefill_tokens_min = 0;     // that must be computed to be worth two units
};

// Which unit a request would go to at this moment, and why: the choice, the pair where a decode
// worker is chosen, and of every unit whether it may be chosen, its load and what it has of the
// prompt. Changes nothing: a policy that draws or takes turns will choose anew when a request
// comes.
Json explain_route(
    const WorkerTable& table,
    const RoutePolicies& policies,
    const RouteQuestion& question
);

}  // namespace pleiad::router
