#pragma once

#include <string_view>

namespace pleiad {

// Prints `what` with its place to stderr and aborts. Never returns.
[[noreturn]] void
check_failed(const char* file, int line, const char* condition, std::string_view what);

}  // namespace pleiad

// A broken invariant of ours: on in every build, ends the process. What the outside can cause
// (bytes, peers, clients) is a Result instead. The second argument says what was expected.
#define PLEIAD_CHECK(condition, ...)                                                           \
  do {                                                                                         \
    if (!(condition)) [[unlikely]] {                                                           \
      ::pleiad::check_failed(__FILE__, __LINE__, #condition, ::std::string_view{__VA_ARGS__}); \
    }                                                                                          \
  } while (false)
