#pragma once

#include <cstdint>
#include <span>

namespace pleiad::ep {

// Assignments, each a row that wants an expert, sorted by expert: the order in which grouped
// products read them. Those of one expert stand together, in the order they came.
struct ExpertGroups {
  std::span<std::int32_t> first;    // [experts + 1]: expert e owns lines first[e] .. first[e + 1]
  std::span<std::int32_t> rows;     // [assignments]: the row each line reads
  std::span<std::int32_t> line_of;  // [assignments]: the line of each assignment
};

// Fills `groups` from the expert and the row of each assignment; experts are below the number of
// groups. A counting sort: no comparison, no allocation.
void group_by_expert(
    std::span<const std::int32_t> experts,
    std::span<const std::int32_t> rows,
    const ExpertGroups& groups
);

}  // namespace pleiad::ep
