#include "router/worker_roster.h"

#include <utility>

namespace pleiad::router {

Result<void> WorkerRoster::add(const std::string& url, std::optional<api::Role> wanted) {
  leases_.lift_ban(url);
  if (leases_.has(url)) {
    leases_.forget(url);  // the operator's from now on
    return {};
  }
  return pool_.add_worker(url, wanted);
}

Result<void> WorkerRoster::remove(const std::string& url) {
  PLEIAD_TRY(pool_.remove_worker(url));
  leases_.forget(url);
  leases_.ban(url);
  return {};
}

Result<bool> WorkerRoster::renew(const std::string& url, Nanoseconds lease, Nanoseconds now) {
  const bool of_operator = pool_.table().find(url).has_value() && !leases_.has(url);
  if (of_operator) return false;
  PLEIAD_TRY(is_new, leases_.renew(url, lease, now));
  if (!is_new) return false;
  const auto added = pool_.add_worker(url, std::nullopt);
  if (!added.ok()) {
    leases_.forget(url);
    return added.error();
  }
  return true;
}

bool WorkerRoster::give_up(const std::string& url, Nanoseconds now) {
  leases_.give_up(url, now);
  return leases_.has(url);
}

std::vector<std::string> WorkerRoster::sweep(Nanoseconds now) {
  std::vector<std::string> removed;
  for (const std::string& url : leases_.over(now)) {
    if (answers(url)) continue;
    leases_.forget(url);
    if (pool_.remove_worker(url).ok()) removed.push_back(url);
  }
  return removed;
}

bool WorkerRoster::answers(const std::string& url) const {
  const auto worker = pool_.table().find(url);
  if (!worker) return false;
  switch (pool_.table().workers()[*worker].state) {
    case WorkerState::Ready:
    case WorkerState::Busy:
    case WorkerState::Draining:
    case WorkerState::Refused:
      return true;
    case WorkerState::Joining:
    case WorkerState::Down:
    case WorkerState::Removed:
      return false;
  }
  return false;
}

}  // namespace pleiad::router
