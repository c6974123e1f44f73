#pragma once

#include <cstdint>
#include <span>

namespace pleiad::ep {

// The rows of a step sorted by expert: the order in which grouped products read them. An assignment
// is one (row, choice) pair; assignments of one expert stand together, rows ascending.
struct ExpertGroups {
  std::span<std::int32_t>
      first;  // [experts + 1]: expert e owns assignments first[e] .. first[e + 1]
  std::span<std::int32_t> rows;     // [rows * topk]: the row each assignment reads
  std::span<std::int32_t> line_of;  // [rows, topk]: the assignment of each choice
};

// Fills `groups` from the gate's choice `ids` [rows, topk], each below the number of experts. A
// counting sort: no comparison, no allocation.
void group_by_expert(
    std::span<const std::int32_t> ids,
    std::int64_t topk,
    const ExpertGroups& groups
);

}  // namespace pleiad::ep
