#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/worker_report.h"
#include "base/clock.h"
#include "base/result.h"
#include "router/lease_table.h"
#include "router/worker_table.h"

namespace pleiad::router {

// What a roster's word takes effect on.
class WorkerPool {
 public:
  virtual ~WorkerPool() = default;
  // Fails when there is such a worker, or there are too many. A worker of another role than
  // `wanted` is refused when it reports.
  virtual Result<void> add_worker(const std::string& url, std::optional<api::Role> wanted) = 0;
  // Fails with NotFound. What runs there goes on elsewhere.
  virtual Result<void> remove_worker(std::string_view url) = 0;
  [[nodiscard]] virtual const WorkerTable& table() const = 0;
};

// Which workers a pool has and by whose word: an operator's, or their own. Those that registered
// must say again and again that they are there; one that does not is removed once it does not
// answer either. Whom an operator removes may not come back by itself. Every worker has one name.
// Pure: time is told by the caller. Not thread-safe.
class WorkerRoster {
 public:
  // `pool` must outlive it.
  explicit WorkerRoster(WorkerPool& pool) : pool_(pool) {}

  // An operator takes a worker in, or over when it had registered. Fails as WorkerPool's do.
  Result<void> add(const std::string& url, std::optional<api::Role> wanted = std::nullopt);
  Result<void> remove(const std::string& url);

  // A worker says that it is there for `lease`. True: it was not. One of an operator's needs no
  // lease and gets none. Fails with Unsupported when an operator has removed it, and when there are
  // too many.
  Result<bool> renew(const std::string& url, Nanoseconds lease, Nanoseconds now);
  // It says that it goes: its lease is over. What runs there may end there. True: it had one.
  bool give_up(const std::string& url, Nanoseconds now);
  // Removes whose lease is over and who does not answer; returns them. To be called again and
  // again.
  std::vector<std::string> sweep(Nanoseconds now);

  [[nodiscard]] const LeaseTable& leases() const { return leases_; }

 private:
  [[nodiscard]] bool answers(const std::string& url) const;

  WorkerPool& pool_;
  LeaseTable leases_;
};

}  // namespace pleiad::router
