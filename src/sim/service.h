#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "api/admission.h"
#include "api/generation.h"
#include "router/router_core.h"
#include "router/worker_link.h"
#include "router/worker_roster.h"
#include "sim/audit.h"
#include "sim/chaos_setting.h"
#include "sim/client.h"
#include "sim/clientele.h"
#include "sim/gate.h"
#include "sim/gate_ledger.h"
#include "sim/network.h"
#include "sim/registry.h"
#include "sim/session.h"
#include "sim/timeline.h"
#include "sim/worker.h"

namespace pleiad::sim {

// Stand-ins between the router's parts and the world, for tests that the checks can fail.
struct ServiceDoubles {
  std::function<std::unique_ptr<router::WorkerLink>(router::WorkerLink& real)> link = {};
  std::function<std::unique_ptr<api::GenerationSink>(api::GenerationSink& real)> sink = {};
  std::function<std::unique_ptr<api::AdmissionGate>(api::AdmissionGate& real)> gate = {};
  std::function<std::unique_ptr<router::WorkerPool>(router::WorkerPool& real)> pool = {};
};

// A router, its gate, workers and clients under virtual time, put together, and compared with one
// another at every event.
class Service {
 public:
  struct Options {
    ServiceDoubles doubles;
    WorkerDefect defect;              // of every worker
    bool words_go_astray = true;      // of workers that register
    std::uint64_t network_seed = 0;   // of delays
    std::uint64_t registry_seed = 0;  // of what becomes of words
    // As Sessions::Service's.
    std::function<void(std::uint64_t session, const std::vector<api::RequestId>&)> on_begun;
  };

  // `setting` must outlive it.
  Service(const ChaosSetting& setting, Options options);
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;

  // Starts all workers, and the router's own clock. Once.
  void start();
  // Other rules at the gate from now on, those of the setting with this index.
  void change_rules(std::size_t index);

  // Lets everything happen that does before then, unless something is violated.
  void run_until(Nanoseconds time);
  // Likewise, until nobody has anything to do.
  void run_until_idle(Nanoseconds deadline);
  // Everything that began is over, and nobody holds anything.
  void check_end();

  [[nodiscard]] Timeline& timeline() { return timeline_; }
  [[nodiscard]] Verdict& verdict() { return verdict_; }
  [[nodiscard]] SimNetwork& network() { return network_; }
  [[nodiscard]] router::RouterCore& core() { return core_; }
  [[nodiscard]] SimRegistry& registry() { return registry_; }
  [[nodiscard]] Clientele& clients() { return clients_; }
  [[nodiscard]] Sessions& sessions() { return sessions_; }

 private:
  void listen();
  void add_host(std::size_t index);
  void tick();
  void check_now();

  const ChaosSetting& setting_;
  const Options options_;
  Timeline timeline_;
  Verdict verdict_;
  SimNetwork network_;
  std::unique_ptr<router::WorkerLink> link_double_;
  Clientele clients_;
  router::RouterCore core_;
  SimPool pool_;
  std::unique_ptr<router::WorkerPool> pool_double_;
  SimRegistry registry_;
  SimGate gate_;
  std::unique_ptr<api::AdmissionGate> gate_double_;
  GateLedger ledger_;
  Sessions sessions_;
  Audit audit_;
};

}  // namespace pleiad::sim
