#pragma once

#include <cstddef>

namespace pleiad::text {

// Bytes [begin, end) of some text.
struct TextRange {
  std::size_t begin = 0;
  std::size_t end = 0;

  friend bool operator==(const TextRange&, const TextRange&) = default;
};

}  // namespace pleiad::text
