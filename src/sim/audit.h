#pragma once

#include <cstdint>

#include "router/admission.h"
#include "router/router_core.h"
#include "sim/client.h"
#include "sim/clientele.h"
#include "sim/gate_ledger.h"
#include "sim/network.h"
#include "sim/session.h"

namespace pleiad::sim {

// Compares what the parts of a service say of one another.
class Audit {
 public:
  // What is compared.
  struct World {
    const router::RouterCore& core;
    const router::Admission& admission;
    const SimNetwork& network;
    const Sessions& sessions;
    const Clientele& clients;
    GateLedger& ledger;
  };

  // All must outlive it.
  Audit(const World& world, Verdict& verdict) : world_(world), verdict_(verdict) {}

  // Between two events: each open request waits or is at one worker, each ended one has told its
  // client, the gate keeps its rules, and no worker queues more than it may.
  void check_now();
  // When everything is healed and over: every worker is ready, and nobody holds anything.
  void check_idle();

  // The router knows every process as ready, and takes requests.
  [[nodiscard]] bool all_ready() const;
  // Nobody has anything to do, and all could.
  [[nodiscard]] bool idle() const;

 private:
  [[nodiscard]] bool knows(const SimHost& host) const;
  void check_queues();
  void check_loads();

  const World world_;
  Verdict& verdict_;
};

}  // namespace pleiad::sim
