#pragma once

#include <string>

#include "api/hand_over.h"
#include "api/worker_report.h"
#include "base/clock.h"

namespace pleiad::engine {

// How the ranks of a process hand keys and values over.
struct HandOverSettings {
  api::Role role = api::Role::Both;  // Both: not at all
  api::WorkerReport::Identity identity;
  std::string instance;             // of this start of the process
  api::KvSource* source = nullptr;  // of Role::Decode: asks prefill workers
  // Whether memory of the same machine is read in place: offered, and taken when offered.
  bool share_memory = true;
  // How long a prefill worker holds a prompt's pages for a peer that takes nothing and does not
  // hang up either.
  Nanoseconds lease = std::chrono::seconds{30};
};

}  // namespace pleiad::engine
