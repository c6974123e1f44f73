#include "apps/flag_values.h"

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

}  // namespace pleiad::apps
