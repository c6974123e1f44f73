#pragma once

#include <chrono>
#include <memory>

#include "net/event_loop.h"

namespace pleiad::net {

// A moment that is moved often and seldom reached: the timer below is set again only when the
// moment moves closer; when it wakes too early it goes back to sleep. Loop thread. Destroying it
// forgets it.
class Deadline {
 public:
  // `passed` runs once each time that a deadline passes.
  Deadline(EventLoop& loop, Task passed) : loop_(loop), passed_(std::move(passed)) {}

  // Keeps `owner`, whose member this is, alive while `passed` runs. Call before set().
  void belong_to(std::weak_ptr<void> owner) { owner_ = std::move(owner); }

  void set(Nanoseconds from_now);
  // No deadline until the next set().
  void clear() { moment_ = TimePoint::max(); }

 private:
  using TimePoint = std::chrono::steady_clock::time_point;

  void arm();
  void on_timer();

  EventLoop& loop_;
  Task passed_;
  std::weak_ptr<void> owner_;
  Timer timer_;
  TimePoint moment_ = TimePoint::max();
  TimePoint timer_moment_ = TimePoint::max();  // at or before moment_
};

}  // namespace pleiad::net
