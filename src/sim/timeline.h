#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "base/clock.h"

namespace pleiad::sim {

// Virtual time: what happens, in order of time, and of being arranged where times are equal. The
// clock stands still while something happens and jumps to the next thing. Not thread-safe.
class Timeline final : public Clock {
 public:
  using Task = std::function<void()>;

  [[nodiscard]] Nanoseconds now() const override { return now_; }
  [[nodiscard]] std::int64_t unix_seconds() const override {
    return 1'700'000'000 + now_.count() / 1'000'000'000;
  }

  // Arranges for `task` at `time`, or now when that is over.
  void at(Nanoseconds time, Task task);
  void after(Nanoseconds delay, Task task) { at(now_ + delay, std::move(task)); }
  // Lets the next thing happen. False: there is none.
  bool step();
  [[nodiscard]] std::uint64_t steps() const { return steps_; }

 private:
  struct Entry {
    Nanoseconds time;
    std::uint64_t order = 0;
    Task task;
  };
  // For a heap with the next entry on top.
  static bool later(const Entry& a, const Entry& b);

  Nanoseconds now_{0};
  std::uint64_t arranged_ = 0;
  std::uint64_t steps_ = 0;
  std::vector<Entry> entries_;  // a heap
};

}  // namespace pleiad::sim
