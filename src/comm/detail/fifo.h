#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "base/check.h"

namespace pleiad::comm {

// A queue that keeps its memory: it allocates only when it grows beyond its longest length so far.
template <typename T>
class Fifo {
 public:
  explicit Fifo(std::size_t capacity = 16) : slots_(capacity) {}

  [[nodiscard]] bool empty() const { return size_ == 0; }
  [[nodiscard]] std::size_t size() const { return size_; }

  // Element `index`, counted from the front.
  T& operator[](std::size_t index) {
    PLEIAD_CHECK(index < size_, "an element of the queue");
    return slots_[(head_ + index) % slots_.size()];
  }
  const T& operator[](std::size_t index) const {
    PLEIAD_CHECK(index < size_, "an element of the queue");
    return slots_[(head_ + index) % slots_.size()];
  }
  T& front() { return (*this)[0]; }

  // Appends an element to be filled in; it holds what its slot held before.
  T& push() {
    if (size_ == slots_.size()) grow();
    ++size_;
    return (*this)[size_ - 1];
  }
  void pop() {
    PLEIAD_CHECK(size_ > 0, "an element to pop");
    head_ = (head_ + 1) % slots_.size();
    --size_;
  }

 private:
  void grow() {
    std::vector<T> larger(slots_.size() * 2);
    for (std::size_t i = 0; i < size_; ++i) {
      larger[i] = std::move((*this)[i]);
    }
    slots_ = std::move(larger);
    head_ = 0;
  }

  std::vector<T> slots_;
  std::size_t head_ = 0;
  std::size_t size_ = 0;
};

}  // namespace pleiad::comm
