#include "router/lease_table.h"

#include <algorithm>

namespace pleiad::router {

Result<bool> LeaseTable::renew(const std::string& url, Nanoseconds lease, Nanoseconds now) {
  if (std::ranges::find(banned_, url) != banned_.end()) {
    return unsupported(
        "an operator removed {}; POST /workers on the router takes it in again", url
    );
  }
  const bool is_new = !has(url);
  if (is_new && until_.size() >= options_.leases_max) {
    return exhausted("{} registered workers are as many as one router takes", options_.leases_max);
  }
  until_[url] = now + lease;
  return is_new;
}

void LeaseTable::give_up(const std::string& url, Nanoseconds now) {
  const auto at = until_.find(url);
  if (at != until_.end()) at->second = std::min(at->second, now);
}

void LeaseTable::ban(const std::string& url) {
  if (std::ranges::find(banned_, url) != banned_.end()) return;
  if (banned_.size() >= options_.banned_max) banned_.erase(banned_.begin());
  banned_.push_back(url);
}

Nanoseconds LeaseTable::left(const std::string& url, Nanoseconds now) const {
  return std::max(until_.at(url) - now, Nanoseconds::zero());
}

std::vector<std::string> LeaseTable::over(Nanoseconds now) const {
  std::vector<std::string> out;
  for (const auto& [url, until] : until_) {
    if (until <= now) out.push_back(url);
  }
  std::ranges::sort(out);
  return out;
}

}  // namespace pleiad::router
