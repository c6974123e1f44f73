#pragma once

#include <cstdint>

#include <sys/eventfd.h>
#include <unistd.h>

#include "comm/detail/file_handle.h"

namespace pleiad::comm {

// Wakes a thread that sleeps in poll(2). Any thread may signal().
class WakeEvent {
 public:
  WakeEvent() : fd_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {}

  [[nodiscard]] int fd() const { return fd_.get(); }
  void signal() {
    const std::uint64_t one = 1;
    // Fails only when the count is full, and then the event is readable anyway.
    [[maybe_unused]] const ssize_t written = ::write(fd_.get(), &one, sizeof one);
  }
  void clear() {
    std::uint64_t count = 0;
    [[maybe_unused]] const ssize_t taken = ::read(fd_.get(), &count, sizeof count);
  }

 private:
  FileHandle fd_;
};

}  // namespace pleiad::comm
