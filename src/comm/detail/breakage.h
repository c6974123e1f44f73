#pragma once

#include <atomic>
#include <mutex>
#include <optional>
#include <utility>

#include "base/result.h"
#include "comm/group.h"

namespace pleiad::comm {

// Why a group is broken: the first reason stays. Any thread.
class Breakage {
 public:
  [[nodiscard]] bool broken() const { return broken_.load(); }

  // Returns false when it was broken before, and the earlier reason stays.
  bool set(Rank by, Error reason) {
    const std::lock_guard lock(mutex_);
    if (reason_) return false;
    reason_ = std::move(reason);
    by_ = by;
    broken_.store(true);
    return true;
  }
  // Who broke the group, and why. REQUIRES: broken().
  [[nodiscard]] std::pair<Rank, Error> first() const {
    const std::lock_guard lock(mutex_);
    return {by_, *reason_};
  }
  // The reason as rank `reader` is told it. REQUIRES: broken().
  [[nodiscard]] Error reason(Rank reader) const {
    const std::lock_guard lock(mutex_);
    if (by_ == reader) return *reason_;
    return with_context(*reason_, fmt::format("rank {} broke the group", by_));
  }

 private:
  std::atomic<bool> broken_{false};
  mutable std::mutex mutex_;  // guards what follows
  std::optional<Error> reason_;
  Rank by_ = 0;
};

// What a rank says when a wait passes its limit, and when a peer is no longer there.
inline Error
heard_nothing(std::string_view step, Rank rank, Rank peer, std::chrono::milliseconds limit) {
  return error(
      ErrorKind::Timeout,
      "{}: rank {} heard nothing of rank {} for {} ms",
      step,
      rank,
      peer,
      limit.count()
  );
}

inline Error lost_peer(std::string_view step, Rank rank, Rank peer, std::string_view how) {
  return unavailable("{}: rank {} lost rank {}: {}", step, rank, peer, how);
}

inline Error
too_long(std::string_view step, Rank rank, Rank peer, std::size_t message, std::size_t buffer) {
  return corrupt(
      "{}: a message of rank {} has {} bytes, rank {} offered room for {}",
      step,
      peer,
      message,
      rank,
      buffer
  );
}

}  // namespace pleiad::comm
