#pragma once

#include <array>
#include <cstddef>
#include <span>

#include "base/check.h"
#include "comm/group.h"

namespace pleiad::comm {

// The buffers that a rank has offered for the next messages of one lane, oldest first. Messages
// fill them in order; the oldest filled one is taken by wait_receive().
class Offers {
 public:
  void post(std::span<std::byte> buffer) {
    PLEIAD_CHECK(count_ < kSlots, "at most Group::kPostedMax offers of a lane are open");
    slots_[(first_ + count_) % kSlots] = {.buffer = buffer, .size = 0};
    ++count_;
  }
  [[nodiscard]] bool empty() const { return count_ == 0; }
  [[nodiscard]] bool wants_message() const { return filled_ < count_; }
  [[nodiscard]] bool has_message() const { return filled_ > 0; }

  // The buffer that the next message goes to. REQUIRES: wants_message().
  [[nodiscard]] std::span<std::byte> next() const {
    PLEIAD_CHECK(wants_message(), "an offer that is open");
    return slots_[(first_ + filled_) % kSlots].buffer;
  }
  // The buffer next() gave holds a message of `size` bytes.
  void fill(std::size_t size) {
    PLEIAD_CHECK(wants_message(), "an offer that is open");
    slots_[(first_ + filled_) % kSlots].size = size;
    ++filled_;
  }
  // Forgets the oldest offer and returns its message's size. REQUIRES: has_message().
  std::size_t take() {
    PLEIAD_CHECK(has_message(), "a message that has arrived");
    const std::size_t size = slots_[first_].size;
    first_ = (first_ + 1) % kSlots;
    --count_;
    --filled_;
    return size;
  }

 private:
  struct Offer {
    std::span<std::byte> buffer;
    std::size_t size = 0;
  };
  static constexpr std::size_t kSlots = Group::kPostedMax;

  std::array<Offer, kSlots> slots_;
  std::size_t first_ = 0;
  std::size_t count_ = 0;   // open, filled or not
  std::size_t filled_ = 0;  // the oldest of them
};

}  // namespace pleiad::comm
