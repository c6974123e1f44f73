#include "router/token_bucket.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace pleiad::router {
namespace {

// Below this a level counts as reached: what rounding of nanoseconds leaves.
constexpr double kTolerance = 1e-6;

}  // namespace

TokenBucket::TokenBucket(std::int64_t per_minute, Nanoseconds now)
    : limit_(per_minute), level_(static_cast<double>(per_minute)), since_(now) {
  PLEIAD_CHECK(per_minute > 0);
}

void TokenBucket::set_limit(std::int64_t per_minute, Nanoseconds now) {
  PLEIAD_CHECK(per_minute > 0);
  settle(now);
  level_ += static_cast<double>(per_minute - limit_);
  limit_ = per_minute;
}

void TokenBucket::take(std::int64_t amount, Nanoseconds now) {
  settle(now);
  level_ -= static_cast<double>(amount);
}

void TokenBucket::give_back(std::int64_t amount, Nanoseconds now) {
  settle(now);
  level_ = std::min(level_ + static_cast<double>(amount), static_cast<double>(limit_));
}

std::int64_t TokenBucket::available(Nanoseconds now) const {
  return std::max<std::int64_t>(0, static_cast<std::int64_t>(level_at(now) + kTolerance));
}

Nanoseconds TokenBucket::until(std::int64_t amount, Nanoseconds now) const {
  PLEIAD_CHECK(amount <= limit_);
  const double lacking = static_cast<double>(amount) - level_at(now);
  if (lacking <= kTolerance) return Nanoseconds::zero();
  const double minutes = lacking / static_cast<double>(limit_);
  constexpr double kRounding = 1e-3;  // nanoseconds that are none
  return Nanoseconds(static_cast<std::int64_t>(std::ceil(minutes * 60e9 - kRounding)));
}

double TokenBucket::level_at(Nanoseconds now) const {
  const double minutes = to_seconds(now - since_) / 60.0;
  const auto limit = static_cast<double>(limit_);
  return std::min(level_ + minutes * limit, limit);
}

void TokenBucket::settle(Nanoseconds now) {
  level_ = level_at(now);
  since_ = now;
}

}  // namespace pleiad::router
