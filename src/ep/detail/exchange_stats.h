#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "comm/group.h"

namespace pleiad::ep {

// Names of the two ways, for errors.
inline constexpr std::string_view kDispatch = "dispatch";
inline constexpr std::string_view kCombine = "combine";

inline void count(std::atomic<std::uint64_t>& counter, std::size_t by) {
  counter.fetch_add(by, std::memory_order_relaxed);
}

// Adds what this thread waited for peers since construction to `total_ns`.
class WaitTimer {
 public:
  WaitTimer(const comm::Group& group, std::atomic<std::uint64_t>& total_ns)
      : group_(group), total_ns_(total_ns), before_(group.traffic().wait_seconds) {}
  ~WaitTimer() {
    const double seconds = group_.traffic().wait_seconds - before_;
    total_ns_.fetch_add(static_cast<std::uint64_t>(seconds * 1e9), std::memory_order_relaxed);
  }
  WaitTimer(const WaitTimer&) = delete;
  WaitTimer& operator=(const WaitTimer&) = delete;

 private:
  const comm::Group& group_;
  std::atomic<std::uint64_t>& total_ns_;
  double before_;
};

}  // namespace pleiad::ep
