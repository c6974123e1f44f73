#pragma once

#include <string>

#include "api/worker_report.h"
#include "base/clock.h"
#include "base/result.h"

namespace CLI {  // NOLINT(readability-identifier-naming): the library's
class App;
}  // namespace CLI

namespace pleiad::apps {

// The flags that say which half of a request a worker does, as typed.
struct HandOverFlags {
  std::string mode = "both";
  std::string transport = "auto";
  double hold_timeout_seconds = 30.0;
};

// What they come to.
struct HandOverChoice {
  api::Role role = api::Role::Both;
  bool share_memory = true;  // where both workers are on one machine
  Nanoseconds lease = std::chrono::seconds{30};
};

// Adds them to a verb; `flags` must outlive parsing.
void add_hand_over_flags(CLI::App& verb, HandOverFlags& flags);

// Checks values. A refusal names the flag, the value and the valid ones.
Result<HandOverChoice> complete(const HandOverFlags& flags);

// What the rest of a worker's settings must be for its role.
struct HandOverNeeds {
  bool secret = false;  // of the cluster, is known
  int nodes = 1;
  bool gpu = false;
};

// Fails with what stands in the way of `role`: the flag, the value, the way out.
Result<void> check_role(api::Role role, const HandOverNeeds& needs);

}  // namespace pleiad::apps
