#include "net/event_loop.h"

#include <utility>

#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>

#include "net/detail/native_loop.h"

namespace pleiad::net {

struct Timer::State {
  asio::steady_timer timer;
  Task task;
};

Timer::Timer(std::shared_ptr<State> state) : state_(std::move(state)) {}

Timer& Timer::operator=(Timer&& other) noexcept {
  if (this != &other) {
    cancel();
    state_ = std::move(other.state_);
  }
  return *this;
}

Timer::~Timer() {
  cancel();
}

void Timer::cancel() {
  if (!state_) return;
  state_->task = nullptr;
  boost::system::error_code ignored;
  state_->timer.cancel(ignored);
  state_.reset();
}

EventLoop::EventLoop() : native_(std::make_unique<Native>()) {}

EventLoop::~EventLoop() = default;

void EventLoop::run() {
  native_->context.run();
}

void EventLoop::stop() {
  native_->context.stop();
}

void EventLoop::post(Task task) {
  asio::post(native_->context, [task = std::move(task)]() mutable { task(); });
}

Timer EventLoop::after(Nanoseconds delay, Task task) {
  auto state = std::make_shared<Timer::State>(Timer::State{
      asio::steady_timer(native_->context, delay), std::move(task)});
  state->timer.async_wait([state](const boost::system::error_code& failure) {
    if (failure || !state->task) return;
    Task expired = std::exchange(state->task, nullptr);
    expired();
  });
  return Timer(std::move(state));
}

bool EventLoop::on_loop_thread() const {
  return native_->context.get_executor().running_in_this_thread();
}

}  // namespace pleiad::net
