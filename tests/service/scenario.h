#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/token.h"
#include "router/policy.h"
#include "tests/service/live_worker.h"

namespace pleiad::service {

// What is done to the worker of a moment, or to the request.
enum class Action { Kill, Freeze, Cancel };
inline constexpr std::size_t kActions = 3;
const char* to_string(Action action);

// At the `nth` time, from 0, that a worker gets to `phase` (of `request`, where one is meant) this
// happens.
struct Trouble {
  Phase phase = Phase::Queued;
  int nth = 0;
  Action action = Action::Kill;
  std::optional<std::size_t> request;
  bool always = false;                // every time from then on: the request kills workers
  std::chrono::milliseconds pause{};  // until the worker is started again, or goes on
};

struct Question {
  std::vector<TokenId> prompt;
  Json body;  // of a completion
  bool stream = false;
  std::chrono::milliseconds at{};  // when it is asked
};

// What a seed draws: a service, what is asked of it, and what goes wrong.
struct Scenario {
  std::string model;  // a folder's name
  std::vector<WorkerSettings> workers;
  router::PolicyKind policy = router::PolicyKind::CacheAware;
  std::int64_t prefill_tokens_min = 0;
  std::vector<Question> questions;
  std::vector<Trouble> troubles;

  // In a line.
  [[nodiscard]] std::string story() const;
};

Scenario draw_scenario(std::uint64_t seed);

}  // namespace pleiad::service
