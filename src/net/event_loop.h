#pragma once

#include <memory>

#include "base/clock.h"
#include "net/unique_function.h"

namespace pleiad::net {

// A pending call of EventLoop::after. Destroying or cancelling it before the call means that the
// call never happens. Loop thread only (or while no thread is in run()).
class Timer {
 public:
  Timer() = default;
  Timer(Timer&&) noexcept = default;
  Timer& operator=(Timer&& other) noexcept;
  ~Timer();

  void cancel();

 private:
  friend class EventLoop;
  struct State;
  explicit Timer(std::shared_ptr<State> state);

  std::shared_ptr<State> state_;  // owners: this handle, and the wait pending in the loop
};

// The thread that sockets and timers belong to. One thread calls run(); everything that happens on
// a loop happens on that thread, one thing at a time. Whatever uses a loop must not block in it.
class EventLoop {
 public:
  EventLoop();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;
  // Drops what was posted and did not run. REQUIRES: no thread is in run(); servers and clients on
  // this loop are gone.
  ~EventLoop();

  // Blocks until stop(), running what is posted and what sockets and timers report.
  void run();
  // Makes run() return soon, or at once when it comes later. Final. Any thread.
  void stop();
  // Runs `task` on the loop thread, after the tasks posted before it by the same thread. Any
  // thread.
  void post(Task task);
  // Runs `task` once on the loop thread, `delay` from this moment. Loop thread, or before run().
  [[nodiscard]] Timer after(Nanoseconds delay, Task task);
  // Whether the caller is inside run().
  [[nodiscard]] bool on_loop_thread() const;

  struct Native;  // the library's loop, for the .cc files of this room
  [[nodiscard]] Native& native() { return *native_; }

 private:
  std::unique_ptr<Native> native_;
};

}  // namespace pleiad::net
