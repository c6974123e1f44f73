#pragma once

#include <cstdint>

namespace pleiad {

// Names one hand-over of keys and values among all that ever were: numbers are of the process that
// receives, within one start of it, and `attempt` of the request that wants it.
struct TransferId {
  std::uint64_t epoch = 0;  // drawn at random at every start
  std::uint64_t number = 0;
  std::uint32_t attempt = 0;

  friend bool operator==(const TransferId&, const TransferId&) = default;
};

}  // namespace pleiad
