#pragma once

#include <condition_variable>
#include <mutex>

namespace pleiad::service {

// Where every thread of a worker passes when it meets the outside: shut, the worker stands still
// like a stopped process; dead, nothing of what it does is seen any more. Any thread.
class Gate {
 public:
  // Blocks while it is shut. False: dead.
  bool pass() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return state_ != State::Shut; });
    return state_ == State::Open;
  }
  void shut() { become(State::Shut); }
  void open() { become(State::Open); }
  void die() { become(State::Dead); }
  [[nodiscard]] bool is_open() {
    const std::scoped_lock lock(mutex_);
    return state_ == State::Open;
  }

 private:
  enum class State { Open, Shut, Dead };

  // Nothing comes back from the dead.
  void become(State state) {
    {
      const std::scoped_lock lock(mutex_);
      if (state_ != State::Dead) state_ = state;
    }
    changed_.notify_all();
  }

  std::mutex mutex_;  // guards state_
  std::condition_variable changed_;
  State state_ = State::Open;
};

}  // namespace pleiad::service
