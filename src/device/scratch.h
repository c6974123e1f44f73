#pragma once

#include <cstddef>
#include <span>
#include <utility>

#include "device/arena_plan.h"
#include "device/buffer.h"

namespace pleiad::device {

// The memory of a placed ArenaPlan. Regions are handed out as typed spans; which may be alive
// together is the plan's promise, not checked here.
class Scratch {
 public:
  static Result<Scratch> allocate(ArenaPlan plan) {
    plan.place();
    PLEIAD_TRY(memory, Buffer::allocate(plan.bytes()));
    return Scratch(std::move(plan), std::move(memory));
  }

  Scratch() = default;

  template <typename T>
  [[nodiscard]] std::span<T> get(RegionId region) {
    std::byte* begin = memory_.data() + plan_.offset(region);
    return {reinterpret_cast<T*>(begin), plan_.size(region) / sizeof(T)};
  }

  [[nodiscard]] std::size_t planned_bytes() const { return plan_.bytes(); }
  [[nodiscard]] std::size_t naive_bytes() const { return plan_.naive_bytes(); }

 private:
  Scratch(ArenaPlan plan, Buffer memory) : plan_(std::move(plan)), memory_(std::move(memory)) {}

  ArenaPlan plan_;
  Buffer memory_;
};

}  // namespace pleiad::device
