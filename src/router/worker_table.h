#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "api/worker_report.h"
#include "base/result.h"
#include "router/load_ledger.h"
#include "router/prefix_index.h"

namespace pleiad::router {

using WorkerIndex = std::uint32_t;

// Joining: not heard of yet. Ready: takes requests. Busy: is up and takes none (starting, draining
// by itself). Draining: gets no new requests by the operator's wish. Refused: does not fit the
// pool. Down: does not answer. Removed: its number is not used again.
enum class WorkerState { Joining, Ready, Busy, Draining, Refused, Down, Removed };
std::string_view to_string(WorkerState state);

struct Worker {
  std::string url;                  // "http://host:port", also its name
  std::optional<api::Role> wanted;  // the role that it must have; none: any
  WorkerState state = WorkerState::Joining;
  std::string reason;  // of Refused and Down
  bool draining = false;
  int missed = 0;             // reports in a row that did not come
  std::uint64_t reports = 0;  // that came
  api::WorkerReport report;
  std::vector<UnitIndex> units;  // [dp ranks]
};

// Where a unit is.
struct UnitPlace {
  WorkerIndex worker = 0;
  std::int32_t dp_rank = 0;
};

// The workers of a pool, the units they consist of, and what the router knows of these. Pure
// bookkeeping; not thread-safe.
class WorkerTable {
 public:
  struct Options {
    int misses_max = 3;  // reports in a row that may not come before a worker counts as down
    std::size_t workers_max = 1024;
  };

  WorkerTable() : WorkerTable(Options{}) {}
  explicit WorkerTable(const Options& options) : options_(options) {}

  // Fails with InvalidInput when there is one of that URL, or there are too many. A worker that
  // reports another role than `wanted` is refused.
  Result<WorkerIndex> add(std::string url, std::optional<api::Role> wanted = std::nullopt);
  std::optional<WorkerIndex> find(std::string_view url) const;
  // Gives it no new requests from now on, or again.
  void set_draining(WorkerIndex worker, bool draining);
  void remove(WorkerIndex worker);

  // A report came. The first worker of the wanted role to report says what the pool's must have in
  // common; one that differs is refused with both values. A restarted worker has lost its cached
  // prefixes.
  void reported(WorkerIndex index, api::WorkerReport report);
  // A report did not come in time.
  void missed(WorkerIndex index, std::string_view reason);
  // A connection to it broke or was refused: down until it reports again.
  void lost(WorkerIndex index, std::string_view reason);
  // The unit had no room: not to be chosen until its worker reports again.
  void full(UnitIndex unit) { eligible_[unit] = 0; }

  [[nodiscard]] std::span<const Worker> workers() const { return workers_; }
  [[nodiscard]] const UnitPlace& place(UnitIndex unit) const { return places_[unit]; }
  // By unit: may be chosen for a request.
  [[nodiscard]] std::span<const std::uint8_t> eligible() const { return eligible_; }
  // By unit: may be chosen to compute a prompt for a decode worker.
  [[nodiscard]] std::span<const std::uint8_t> prefill_eligible() const { return prefill_eligible_; }
  [[nodiscard]] bool any_eligible() const;
  // What every worker that fits can take; no limits while none has reported.
  [[nodiscard]] api::GeneratorLimits limits() const;

  LoadLedger& loads() { return loads_; }
  PrefixIndex& prefixes() { return prefixes_; }
  [[nodiscard]] const LoadLedger& loads() const { return loads_; }
  [[nodiscard]] const PrefixIndex& prefixes() const { return prefixes_; }

 private:
  void place_units(WorkerIndex index);
  void update_eligible(WorkerIndex index);

  Options options_;
  std::vector<Worker> workers_;
  std::vector<UnitPlace> places_;                        // [units]
  std::vector<std::uint8_t> eligible_;                   // [units]
  std::vector<std::uint8_t> prefill_eligible_;           // [units]
  std::optional<api::WorkerReport::Identity> identity_;  // of the pool
  LoadLedger loads_;
  PrefixIndex prefixes_;
};

}  // namespace pleiad::router
