#pragma once

#include <cstdint>

#include "base/clock.h"

namespace pleiad::router {

// So much per minute, with a minute's worth at once: a level that rises steadily to its limit and
// falls by what is taken. It may fall below zero when a request turns out dearer than was thought;
// the debt is paid before anything else is given. Time is told by the caller and never goes back.
// A plain value.
class TokenBucket {
 public:
  // Full. REQUIRES: per_minute > 0.
  TokenBucket(std::int64_t per_minute, Nanoseconds now);

  // Another limit from now on; what is used of the old one stays used.
  void set_limit(std::int64_t per_minute, Nanoseconds now);
  void take(std::int64_t amount, Nanoseconds now);
  // What was taken too much.
  void give_back(std::int64_t amount, Nanoseconds now);

  [[nodiscard]] std::int64_t limit() const { return limit_; }
  // Whole units that may be taken; not below 0.
  [[nodiscard]] std::int64_t available(Nanoseconds now) const;
  // Until `amount` may be taken; zero: it may be now. REQUIRES: amount <= limit().
  [[nodiscard]] Nanoseconds until(std::int64_t amount, Nanoseconds now) const;
  // Until it is full again.
  [[nodiscard]] Nanoseconds until_full(Nanoseconds now) const { return until(limit_, now); }

 private:
  [[nodiscard]] double level_at(Nanoseconds now) const;
  void settle(Nanoseconds now);

  std::int64_t limit_;
  double level_;  // at since_
  Nanoseconds since_;
};

}  // namespace pleiad::router
