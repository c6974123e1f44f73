#include "sim/timeline.h"

#include <algorithm>
#include <utility>

namespace pleiad::sim {

bool Timeline::later(const Entry& a, const Entry& b) {
  return a.time != b.time ? a.time > b.time : a.order > b.order;
}

void Timeline::at(Nanoseconds time, Task task) {
  entries_.push_back({.time = std::max(time, now_), .order = arranged_++, .task = std::move(task)});
  std::ranges::push_heap(entries_, later);
}

bool Timeline::step() {
  if (entries_.empty()) return false;
  std::ranges::pop_heap(entries_, later);
  const Entry next = std::move(entries_.back());
  entries_.pop_back();
  now_ = next.time;
  ++steps_;
  next.task();
  return true;
}

}  // namespace pleiad::sim
