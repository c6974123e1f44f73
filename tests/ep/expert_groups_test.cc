#include "ep/expert_groups.h"

#include <vector>

#include <gtest/gtest.h>

#include "base/random.h"

namespace pleiad::ep {
namespace {

struct Storage {
  std::vector<std::int32_t> first;
  std::vector<std::int32_t> rows;
  std::vector<std::int32_t> line_of;

  Storage(std::size_t experts, std::size_t lines)
      : first(experts + 1), rows(lines), line_of(lines) {}
  [[nodiscard]] ExpertGroups groups() { return {.first = first, .rows = rows, .line_of = line_of}; }
};

// Every row's choices stand together.
std::vector<std::int32_t> rows_of(std::size_t assignments, std::size_t topk) {
  std::vector<std::int32_t> rows;
  for (std::size_t i = 0; i < assignments; ++i)
    rows.push_back(static_cast<std::int32_t>(i / topk));
  return rows;
}

TEST(ExpertGroups, SortsAssignmentsByExpertAndKeepsRowOrder) {
  // Row 0 chose experts 1 and 3, row 1 chose 0 and 1, row 2 chose 1 and 2.
  const std::vector<std::int32_t> ids = {1, 3, 0, 1, 1, 2};
  Storage storage(4, ids.size());

  group_by_expert(ids, rows_of(ids.size(), 2), storage.groups());

  EXPECT_EQ(storage.first, (std::vector<std::int32_t>{0, 1, 4, 5, 6}));
  EXPECT_EQ(storage.rows, (std::vector<std::int32_t>{1, 0, 1, 2, 2, 0}));
  EXPECT_EQ(storage.line_of, (std::vector<std::int32_t>{1, 5, 0, 2, 3, 4}));
}

TEST(ExpertGroups, NoRowsGiveEmptyGroups) {
  Storage storage(3, 0);
  storage.first = {7, 7, 7, 7};

  group_by_expert({}, {}, storage.groups());

  EXPECT_EQ(storage.first, (std::vector<std::int32_t>{0, 0, 0, 0}));
}

TEST(ExpertGroups, EveryAssignmentHasItsOwnLineInItsExpertsGroup) {
  Random random(5);
  for (int round = 0; round < 50; ++round) {
    const std::size_t experts = 1 + random.below(40);
    const std::size_t topk = 1 + random.below(8);
    std::vector<std::int32_t> ids(topk * random.below(60));
    for (auto& id : ids)
      id = static_cast<std::int32_t>(random.below(experts));
    Storage storage(experts, ids.size());

    group_by_expert(ids, rows_of(ids.size(), topk), storage.groups());

    std::vector<bool> used(ids.size());
    for (std::size_t i = 0; i < ids.size(); ++i) {
      const auto line = static_cast<std::size_t>(storage.line_of[i]);
      const auto expert = static_cast<std::size_t>(ids[i]);
      ASSERT_FALSE(used[line]);
      used[line] = true;
      ASSERT_GE(storage.line_of[i], storage.first[expert]);
      ASSERT_LT(storage.line_of[i], storage.first[expert + 1]);
      ASSERT_EQ(storage.rows[line], static_cast<std::int32_t>(i / topk));
    }
  }
}

}  // namespace
}  // namespace pleiad::ep
