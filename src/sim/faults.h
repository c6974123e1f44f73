#pragma once

#include <cstddef>
#include <cstdint>
#include <set>
#include <vector>

#include "base/random.h"
#include "router/router_core.h"
#include "sim/network.h"
#include "sim/registry.h"
#include "sim/timeline.h"

namespace pleiad::sim {

// What goes wrong with one worker at a time. Kill: the process dies. LosePower: the machine does.
// Freeze: the process stands still. SlowDown: steps take ten times as long. Drain: it shuts down in
// good order. LoseRank: one of its ranks is gone. BreakOne, SilenceOne: one of the router's
// connections; BreakTransfer, SilenceTransfer: one between workers. Clog: the
// network holds back what goes to it, comes from it, or both. OperatorDrain, OperatorRemove: by
// wish.
enum class Fault {
  Kill,
  LosePower,
  Freeze,
  SlowDown,
  Drain,
  LoseRank,
  BreakOne,
  SilenceOne,
  BreakTransfer,
  SilenceTransfer,
  Clog,
  OperatorDrain,
  OperatorRemove,
};

// Lets faults happen to the workers of a network, of kinds that the seed draws, each for a time.
class Faults {
 public:
  // What they happen to.
  struct World {
    Timeline& timeline;
    router::RouterCore& core;
    SimNetwork& network;
    SimRegistry& registry;
  };

  // All must outlive it.
  Faults(const World& world, std::uint64_t seed);

  // One of the drawn kinds, to one worker.
  void happen();
  void happen(Fault fault, std::size_t host);
  // Every worker is up, quick, reachable and wanted from now on.
  void heal();
  [[nodiscard]] std::uint64_t happened() const { return happened_; }

 private:
  Nanoseconds draw(std::int64_t low_ms, std::int64_t high_ms);
  // Does it then, unless all was healed meanwhile.
  void later(Nanoseconds delay, Timeline::Task task);
  void restart_later(std::size_t host);
  void drain(std::size_t host);
  void clog(std::size_t host);
  void operator_drain(std::size_t host, bool draining);
  void remove(std::size_t host);
  void add_back(std::size_t host);

  Timeline& timeline_;
  router::RouterCore& core_;
  SimNetwork& network_;
  SimRegistry& registry_;
  Random random_;
  std::vector<Fault> kinds_;
  std::uint64_t happened_ = 0;
  std::set<std::size_t> removed_;  // hosts, by an operator
  bool healed_ = false;
};

}  // namespace pleiad::sim
