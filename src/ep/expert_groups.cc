#include "ep/expert_groups.h"

#include <algorithm>

#include "base/check.h"

namespace pleiad::ep {

void group_by_expert(
    std::span<const std::int32_t> experts,
    std::span<const std::int32_t> rows,
    const ExpertGroups& groups
) {
  PLEIAD_CHECK(
      rows.size() == experts.size() && groups.rows.size() >= experts.size() &&
      groups.line_of.size() >= experts.size()
  );
  const std::span<std::int32_t> first = groups.first;
  std::ranges::fill(first, 0);
  for (const std::int32_t expert : experts) {
    ++first[static_cast<std::size_t>(expert)];
  }
  // Exclusive sums; first[e] then walks from the start of expert e to its end while lines are given
  // out.
  std::int32_t sum = 0;
  for (std::int32_t& count : first) {
    const std::int32_t here = count;
    count = sum;
    sum += here;
  }
  for (std::size_t i = 0; i < experts.size(); ++i) {
    const std::int32_t line = first[static_cast<std::size_t>(experts[i])]++;
    groups.line_of[i] = line;
    groups.rows[static_cast<std::size_t>(line)] = rows[i];
  }
  // Each first[e] stands at the start of e + 1 now: shift back by one.
  for (std::size_t e = first.size() - 1; e > 0; --e) {
    first[e] = first[e - 1];
  }
  first[0] = 0;
}

}  // namespace pleiad::ep
