#pragma once

#include <cstdint>

namespace pleiad::model {

// Tensor parallelism: so many neighbouring ranks of a group share the attention and the dense
// layers of one batch (Shoeybi et al., arXiv 1909.08053). Here every part computes some of the
// outputs of each product, whole: none adds up part of a sum, so the bits are those of one rank.
struct TensorPlace {
  std::int32_t parts = 1;
  std::int32_t part = 0;
  std::int32_t first_rank = 0;  // of the parts, in the group

  [[nodiscard]] bool leads() const { return part == 0; }
};

// Elements [begin, begin + count).
struct PartRange {
  std::int64_t begin = 0;
  std::int64_t count = 0;
};

// What part `part` of `parts` has of `whole` things: neighbours, as even as can be.
inline PartRange part_of(std::int64_t whole, std::int32_t parts, std::int32_t part) {
  const std::int64_t begin = whole * part / parts;
  return {begin, whole * (part + 1) / parts - begin};
}

}  // namespace pleiad::model
