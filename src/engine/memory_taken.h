#pragma once

#include <cstddef>

#include "base/result.h"

namespace pleiad::engine {

// What loading has taken of the memory that computes.
struct MemoryTaken {
  std::size_t weights = 0;  // bytes
  std::size_t scratch = 0;
  std::size_t kv_pages = 0;
};

// An Exhausted error with what took the memory before it, and the flags that lower each; another
// error as it is.
Error tell_taken(Error error, const MemoryTaken& taken);

}  // namespace pleiad::engine
