#include "apps/flag_values.h"

#include <charconv>

#include "device/cuda/gpus.h"

namespace pleiad::apps {

engine::ComputeChoice compute_choice(std::string_view dtype) {
  if (dtype == "float32") return engine::ComputeChoice::Float32;
  if (dtype == "bfloat16") return engine::ComputeChoice::BFloat16;
  return engine::ComputeChoice::Auto;
}

LogLevel log_level(std::string_view name) {
  if (name == "debug") return LogLevel::Debug;
  if (name == "warning") return LogLevel::Warning;
  if (name == "error") return LogLevel::Error;
  return LogLevel::Info;
}

Result<std::optional<int>> device_choice(std::string_view device, std::int32_t ranks) {
  constexpr std::string_view kPrefix = "cuda:";
  if (device == "cpu") return std::optional<int>();
  if (device == "auto") {
    const bool there = ranks == 1 && device::cuda::find_gpu(0).ok();
    return there ? std::optional<int>(0) : std::nullopt;
  }
  int index = 0;
  if (device != "cuda") {
    const std::string_view digits =
        device.starts_with(kPrefix) ? device.substr(kPrefix.size()) : std::string_view{};
    const auto [end, failure] =
        std::from_chars(digits.data(), digits.data() + digits.size(), index);
    const bool whole = failure == std::errc() && end == digits.data() + digits.size();
    if (digits.empty() || !whole) {
      return invalid_input("--device {}: use auto, cpu, cuda or cuda:INDEX", device);
    }
  }
  PLEIAD_TRY(gpu, device::cuda::find_gpu(index));
  return std::optional<int>(gpu.index);
}

}  // namespace pleiad::apps
