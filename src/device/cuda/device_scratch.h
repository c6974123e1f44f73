#pragma once

#include <cstddef>
#include <string_view>
#include <utility>

#include "device/arena_plan.h"
#include "device/cuda/device_buffer.h"

namespace pleiad::device::cuda {

// The GPU memory of a placed ArenaPlan; device/scratch.h for the host's.
class DeviceScratch {
 public:
  static Result<DeviceScratch>
  allocate(ArenaPlan plan, std::string_view what, std::string_view remedy) {
    plan.place();
    PLEIAD_TRY(memory, DeviceBuffer::allocate(plan.bytes(), what, remedy));
    return DeviceScratch(std::move(plan), std::move(memory));
  }

  DeviceScratch() = default;

  template <typename T>
  [[nodiscard]] T* get(RegionId region) const {
    return reinterpret_cast<T*>(memory_.data() + plan_.offset(region));
  }

  [[nodiscard]] std::size_t planned_bytes() const { return plan_.bytes(); }
  [[nodiscard]] std::size_t naive_bytes() const { return plan_.naive_bytes(); }

 private:
  DeviceScratch(ArenaPlan plan, DeviceBuffer memory)
      : plan_(std::move(plan)), memory_(std::move(memory)) {}

  ArenaPlan plan_;
  DeviceBuffer memory_;
};

}  // namespace pleiad::device::cuda
