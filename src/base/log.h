#pragma once

#include <string_view>
#include <utility>

#include <fmt/core.h>

namespace pleiad {

enum class LogLevel { Debug, Info, Warning, Error };

// Drops lines below `level`. Call before other threads start.
void set_log_level(LogLevel level);
// One line to stderr: time, level, text. Any thread.
void log_line(LogLevel level, std::string_view text);
[[nodiscard]] bool log_enabled(LogLevel level);

template <typename... Args>
void log_format(LogLevel level, fmt::format_string<Args...> format, Args&&... args) {
  log_line(level, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace pleiad

// PLEIAD_LOG(Info, "loaded {} tensors", count): formats only when the level is on.
#define PLEIAD_LOG(level, ...)                                      \
  do {                                                              \
    if (::pleiad::log_enabled(::pleiad::LogLevel::level)) {         \
      ::pleiad::log_format(::pleiad::LogLevel::level, __VA_ARGS__); \
    }                                                               \
  } while (false)
