#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/random.h"
#include "router/admission_rules.h"
#include "router/router_core.h"
#include "sched/scheduler.h"
#include "sim/network.h"
#include "sim/registry.h"
#include "sim/worker.h"

namespace pleiad::sim {

// What a seed of run_chaos draws once.
struct ChaosSetting {
  std::size_t hosts = 1;
  std::size_t prefill_hosts = 0;  // of those, the first ones; then all others take prompts over
  Nanoseconds lease = std::chrono::seconds(5);  // of a prompt's keys
  std::size_t dp_ranks = 1;
  int requests = 10;
  Nanoseconds horizon = std::chrono::seconds(10);  // requests and faults come until then
  NetworkOptions network;
  router::RouterCoreOptions core;
  sched::SchedulerOptions scheduler;
  StepCost cost;
  RegistryOptions registry;
  std::vector<std::size_t> registering;  // hosts whose workers register themselves
  bool gate_open = true;                 // everything may start at once
  // Of admission, one after another; the first from the start, the others at times that are drawn.
  std::vector<router::AdmissionRules> rules;
};

// A class and a key of all rules, for which everybody may wait.
inline constexpr const char* kProbeClass = "probes";

// How many other classes and keys rules may have, and their names.
inline constexpr std::uint64_t kClasses = 3;
inline constexpr std::uint64_t kKeys = 3;
std::string class_name(std::uint64_t index);
std::string key_name(std::uint64_t index);

ChaosSetting draw_setting(Random& random);

}  // namespace pleiad::sim
