#include "net/detail/deadline.h"

namespace pleiad::net {

void Deadline::set(Nanoseconds from_now) {
  moment_ = std::chrono::steady_clock::now() + from_now;
  if (moment_ < timer_moment_) arm();
}

void Deadline::arm() {
  timer_moment_ = moment_;
  timer_ = loop_.after(moment_ - std::chrono::steady_clock::now(), [this] { on_timer(); });
}

void Deadline::on_timer() {
  const auto owner = owner_.lock();
  timer_moment_ = TimePoint::max();
  if (!owner || moment_ == TimePoint::max()) return;
  if (std::chrono::steady_clock::now() < moment_) {
    arm();
    return;
  }
  clear();
  passed_();
}

}  // namespace pleiad::net
