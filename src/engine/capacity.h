#pragma once

#include <cstddef>
#include <cstdint>

#include "base/result.h"

namespace pleiad::engine {

// What decides how many pages the KV cache gets.
struct CapacityInput {
  std::size_t memory_bytes = 0;    // that the process may use
  double memory_fraction = 0.8;    // of it, for weights, scratch and cache (--mem-fraction-static)
  std::size_t kv_bytes = 0;        // exactly this much cache; 0: what the fraction leaves
  std::size_t resident_bytes = 0;  // weights and scratch
  std::size_t page_bytes = 0;      // one page over all layers
  std::int64_t model_tokens = 0;  // longest sequence wanted; 0: what the checkpoint allows, or fits
  std::int64_t positions_max = 0;  // longest sequence the checkpoint allows
  std::int64_t sequences_max = 0;  // at once
};

struct Capacity {
  std::int64_t pages = 0;
  std::int64_t model_tokens = 0;  // longest sequence served
};

// Sizes the cache: never more pages than `sequences_max` longest sequences can use, never fewer
// than one longest sequence needs. Fails with InvalidInput (model_tokens beyond the checkpoint) or
// Exhausted (names what took the memory and the flag to turn). Pure.
Result<Capacity> plan_capacity(const CapacityInput& input);

}  // namespace pleiad::engine
