#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "base/result.h"

namespace pleiad::router {

// Which workers are there because they say so, and until when. A worker that registers gets a lease
// and keeps it by registering again; one whose lease is over may be removed. Workers that an
// operator gave have no lease. Pure: time is told by the caller. Not thread-safe.
class LeaseTable {
 public:
  struct Options {
    std::size_t leases_max = 1024;
    std::size_t banned_max = 1024;
  };

  LeaseTable() : LeaseTable(Options{}) {}
  explicit LeaseTable(const Options& options) : options_(options) {}

  // The worker is there for `lease` from now on. True: it had no lease before. Fails with
  // Unsupported when an operator has removed it, and with Exhausted when there are too many.
  Result<bool> renew(const std::string& url, Nanoseconds lease, Nanoseconds now);
  // It goes: its lease is over.
  void give_up(const std::string& url, Nanoseconds now);
  // It is removed, or is an operator's from now on: no lease.
  void forget(const std::string& url) { until_.erase(url); }
  // An operator has removed it: it may not come back by itself. The oldest such word is forgotten
  // when there are too many.
  void ban(const std::string& url);
  void lift_ban(std::string_view url) { std::erase(banned_, url); }

  [[nodiscard]] bool has(const std::string& url) const { return until_.contains(url); }
  [[nodiscard]] std::size_t size() const { return until_.size(); }
  // Time left of a lease; zero: it is over. REQUIRES: has(url).
  [[nodiscard]] Nanoseconds left(const std::string& url, Nanoseconds now) const;
  // Whose lease is over, by name.
  [[nodiscard]] std::vector<std::string> over(Nanoseconds now) const;

 private:
  Options options_;
  std::unordered_map<std::string, Nanoseconds> until_;
  std::vector<std::string> banned_;
};

}  // namespace pleiad::router
