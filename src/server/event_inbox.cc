#include "server/event_inbox.h"

#include <utility>

namespace pleiad::server {

void EventInbox::push(InboxEvent event) {
  bool wake = false;
  {
    const std::scoped_lock lock(mutex_);
    pending_.push_back(std::move(event));
    wake = !std::exchange(scheduled_, true);
  }
  if (wake) loop_.post([this] { drain(); });
}

void EventInbox::drain() {
  {
    const std::scoped_lock lock(mutex_);
    std::swap(pending_, draining_);
    scheduled_ = false;
  }
  for (InboxEvent& event : draining_) {
    handler_(event);
  }
  draining_.clear();
}

}  // namespace pleiad::server
