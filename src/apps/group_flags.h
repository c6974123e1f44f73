#pragma once

#include <optional>
#include <string>

#include "base/result.h"
#include "plan/ep_settings.h"
#include "plan/parallel_layout.h"

namespace CLI {  // NOLINT(readability-identifier-naming): the library's
class App;
}  // namespace CLI

namespace pleiad::apps {

// The flags that say how a model spreads over ranks, as typed.
struct GroupFlags {
  plan::LayoutRequest layout;
  bool expert_parallel = false;  // vLLM's way to say ep_size = tp_size * dp_size
  std::string level = "auto";
  std::string backend;  // --moe-a2a-backend, when given
  std::string buffer_scales;
  std::string routing = "gate";
  plan::EpSettings settings;
};

// What they come to.
struct GroupChoice {
  plan::ParallelLayout layout;
  plan::EpSettings settings;
};

// Adds them to a verb; `flags` must outlive parsing.
void add_size_flags(CLI::App& verb, GroupFlags& flags);
void add_ep_flags(CLI::App& verb, GroupFlags& flags);

// Checks values and the rules between them. A refusal names rule, value, and nearest valid value.
Result<GroupChoice> complete(const GroupFlags& flags);

}  // namespace pleiad::apps
