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

// Which unit a request would go to at this moment, and why: the choice, and of every unit whether
// it may be chosen, its load and what it has of the prompt. Changes nothing: a policy that draws or
// takes turns will choose anew when a request comes.
Json explain_route(const WorkerTable& table, const Policy& policy, const RouteQuestion& question);

}  // namespace pleiad::router
