#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

namespace pleiad {

using Nanoseconds = std::chrono::nanoseconds;

// Time as a parameter. All members may be called from any thread.
class Clock {
 public:
  virtual ~Clock() = default;
  // Time since some fixed moment; never goes back.
  [[nodiscard]] virtual Nanoseconds now() const = 0;
  // Seconds since 1970 UTC, for stamps shown to people and clients.
  [[nodiscard]] virtual std::int64_t unix_seconds() const = 0;
};

// The machine's clocks.
class SystemClock final : public Clock {
 public:
  [[nodiscard]] Nanoseconds now() const override;
  [[nodiscard]] std::int64_t unix_seconds() const override;
};

// A clock that moves only when told to: tests and the simulator.
class FakeClock final : public Clock {
 public:
  [[nodiscard]] Nanoseconds now() const override { return Nanoseconds{now_ns_.load()}; }
  [[nodiscard]] std::int64_t unix_seconds() const override {
    return 1'700'000'000 + now_ns_.load() / 1'000'000'000;
  }
  void advance(Nanoseconds by) { now_ns_.fetch_add(by.count()); }

 private:
  std::atomic<std::int64_t> now_ns_{0};
};

// `t` in seconds.
inline double to_seconds(Nanoseconds t) {
  return static_cast<double>(t.count()) * 1e-9;
}

}  // namespace pleiad
