#include "engine/balancedness.h"

#include <algorithm>

namespace pleiad::engine {

double balancedness(std::span<const std::uint64_t> tokens) {
  std::uint64_t sum = 0;
  std::uint64_t most = 0;
  for (const std::uint64_t count : tokens) {
    sum += count;
    most = std::max(most, count);
  }
  if (most == 0) return 1.0;
  return static_cast<double>(sum) / static_cast<double>(tokens.size()) / static_cast<double>(most);
}

}  // namespace pleiad::engine
