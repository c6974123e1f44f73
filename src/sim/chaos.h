#pragma once

#include <cstdint>
#include <string>

#include "sim/service.h"
#include "sim/worker.h"

namespace pleiad::sim {

struct ChaosOptions {
  std::uint64_t seed = 0;
  bool faults = true;  // false: nothing fails, and nobody hangs up
  ServiceDoubles doubles = {};
  WorkerDefect defect = {};  // of every worker
};

struct ChaosReport {
  std::string violation;  // empty: none
  std::string story;      // what the seed drew, and what happened, in a line
  std::uint64_t events = 0;
  std::uint64_t requests = 0;  // accepted
  std::uint64_t whole = 0;     // answered in full
  std::uint64_t failed = 0;
  std::uint64_t replays = 0;
  std::uint64_t faults = 0;
  std::uint64_t hand_overs = 0;
  std::uint64_t prefill_losses = 0;
  std::uint64_t visits = 0;   // at the gate
  std::uint64_t queued = 0;   // visits that waited there
  std::uint64_t refused = 0;  // by the gate
  std::uint64_t lapses = 0;   // registered workers whose lease ran out, and who were let go
  std::uint64_t returns = 0;  // of those, that registered again
};

// A service in one process under virtual time: the router's real admission, core and roster,
// simulated workers with the real scheduler, and a network, workers and clients that misbehave as
// the seed draws. For some time faults happen; then all is healed, and the service must come back.
// Checked at every event: each answer is a prefix of the right one; a request is at one worker or
// waits, never both or neither; the router's account of loads says the same; the gate keeps its
// rules (gate_ledger.h); workers are let go when their leases are over and they do not answer, then
// and only then, and get no request before they register again. Checked at the end: every request
// has been refused or has ended, once, for a reason that was there; no worker holds a page; a
// poisoned prompt has killed no more workers than it may; keys have got back what they did not use;
// requests after the healing are answered. Same seed, same run.
ChaosReport run_chaos(const ChaosOptions& options);

}  // namespace pleiad::sim
