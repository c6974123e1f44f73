#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/random.h"
#include "router/router_core.h"
#include "router/worker_roster.h"
#include "sim/client.h"
#include "sim/network.h"
#include "sim/timeline.h"

namespace pleiad::sim {

struct RegistryOptions {
  Nanoseconds lease = std::chrono::seconds(10);
  Nanoseconds interval = std::chrono::seconds(3);  // from an answer to the next word
  Nanoseconds retry = std::chrono::seconds(1);     // the same after a failure
  Nanoseconds timeout = std::chrono::seconds(1);   // of an answer
  Nanoseconds sweep_interval = std::chrono::milliseconds(500);
  Nanoseconds late_max = std::chrono::seconds(8);
  // Chances that a worker's word is lost, comes twice, or comes late: behind that of its next
  // start, or when it is gone.
  double lost_chance = 0.0;
  double twice_chance = 0.0;
  double late_chance = 0.0;
};

// The core's workers, with the network that asks them for reports.
class SimPool final : public router::WorkerPool {
 public:
  // Both must outlive it.
  SimPool(router::RouterCore& core, SimNetwork& network) : core_(core), network_(network) {}
  Result<void> add_worker(const std::string& url, std::optional<api::Role> wanted) override;
  Result<void> remove_worker(std::string_view url) override;
  [[nodiscard]] const router::WorkerTable& table() const override { return core_.table(); }

 private:
  router::RouterCore& core_;
  SimNetwork& network_;
};

// The router's real roster under virtual time, and the workers that register there: the twin of
// apps/worker_registry and server/router_registration. What the roster does is compared with an
// account of its own of who said what and when.
class SimRegistry {
 public:
  // All must outlive it. `pool` is SimPool, or a stand-in.
  SimRegistry(
      Timeline& timeline,
      SimNetwork& network,
      router::WorkerPool& pool,
      Verdict& verdict,
      std::uint64_t seed
  );
  SimRegistry(const SimRegistry&) = delete;
  SimRegistry& operator=(const SimRegistry&) = delete;

  // Before anything starts.
  void set_options(const RegistryOptions& options) { options_ = options; }
  // Looks at leases from now on.
  void start() { sweep(); }

  // What operators do.
  void add(std::size_t host);
  void remove(std::size_t host);

  // The host's workers are to register themselves.
  void registers(std::size_t host) { registering_.insert(host); }
  // A process of it has started.
  void on_start(std::size_t host);
  // Its worker shuts down, and says so.
  void leave(std::size_t host);
  // From now on every word comes, once and soon.
  void heal();

  // A request is sent there.
  void check_sent(const std::string& url);
  // How often leases ran out, and workers came back from that.
  [[nodiscard]] std::uint64_t lapses() const { return lapses_; }
  [[nodiscard]] std::uint64_t returns() const { return returns_; }

 private:
  // Of a process: what it said last.
  struct Word {
    int start = 0;
    std::uint64_t number = 0;  // counts answers too
    bool left = false;
  };

  // Does `task` in the process that has so many starts, as soon as it can.
  void in_process(std::size_t host, int start, Timeline::Task task);
  void tell(std::size_t host, int start);
  void hear(std::size_t host, int start, std::uint64_t number);
  void on_told(std::size_t host, int start, std::uint64_t number, bool taken);
  // A message from there to the router, with all that may happen to it.
  void send(std::size_t host, const Timeline::Task& task);
  void carry(std::size_t host, const Timeline::Task& task);
  Nanoseconds delay();
  bool renew(const std::string& url);
  void give_up(const std::string& url);
  void sweep();
  [[nodiscard]] bool answers(const std::string& url) const;

  Timeline& timeline_;
  SimNetwork& network_;
  router::WorkerPool& pool_;
  Verdict& verdict_;
  Random random_;
  RegistryOptions options_;
  router::WorkerRoster roster_;
  std::set<std::size_t> registering_;
  std::map<std::size_t, Word> words_;  // by host
  // An account of its own, by url: until when workers are there, whom an operator keeps away, and
  // to whom no requests may go.
  std::map<std::string, Nanoseconds> leases_;
  std::set<std::string> banned_;
  std::set<std::string> gone_;
  std::uint64_t lapses_ = 0;
  std::uint64_t returns_ = 0;
};

}  // namespace pleiad::sim
