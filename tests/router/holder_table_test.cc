#include "router/holder_table.h"

#include <map>
#include <set>
#include <string>

#include <gtest/gtest.h>

#include "base/hash.h"
#include "base/random.h"

namespace pleiad::router {
namespace {

std::set<UnitIndex> units_of(const HolderTable& table, std::uint64_t key) {
  const HolderTable::Holders holders = table.holders(key);
  std::set<UnitIndex> units(holders.few.begin(), holders.few.begin() + holders.few_count);
  for (std::size_t word = 0; word < holders.many.size(); ++word) {
    for (UnitIndex bit = 0; bit < 64; ++bit) {
      if ((holders.many[word] >> bit & 1U) != 0) {
        units.insert(static_cast<UnitIndex>(word * 64) + bit);
      }
    }
  }
  return units;
}

TEST(HolderTable, TellsWhatWasUsedSinceItWasAsked) {
  HolderTable table;
  EXPECT_FALSE(table.touch(7, 1));
  table.insert(7, 1);
  EXPECT_FALSE(table.take_used(7, 1));
  EXPECT_TRUE(table.touch(7, 1));
  EXPECT_FALSE(table.touch(7, 2));
  EXPECT_TRUE(table.take_used(7, 1));
  EXPECT_FALSE(table.take_used(7, 1));
  table.erase(7, 1);
  EXPECT_TRUE(table.holders(7).none());
}

// Against a map, with keys that few hold and keys that many hold, growing and shrinking.
TEST(HolderTable, AgreesWithAMapOverRandomTraffic) {
  const std::uint64_t seed = entropy_seed();
  SCOPED_TRACE("seed " + std::to_string(seed));
  Random random(seed);
  HolderTable table;
  std::map<std::uint64_t, std::map<UnitIndex, bool>> reference;  // whether it was used
  std::size_t pairs = 0;
  for (int round = 0; round < 60000; ++round) {
    const std::uint64_t spread = random.below(2) == 0 ? 8 : 3000;
    const std::uint64_t key = hash64(std::to_string(random.below(spread)));
    const auto unit = static_cast<UnitIndex>(random.below(spread == 8 ? 300 : 4));
    auto& holders = reference[key];
    const auto held = holders.find(unit);
    ASSERT_EQ(table.touch(key, unit), held != holders.end());
    if (held == holders.end()) {
      table.insert(key, unit);
      holders[unit] = false;
      ++pairs;
    } else if (random.below(3) == 0) {
      ASSERT_TRUE(table.take_used(key, unit));
      held->second = false;
    } else {
      held->second = true;
      if (random.below(2) == 0) {
        table.erase(key, unit);
        holders.erase(held);
        --pairs;
      }
    }
    std::set<UnitIndex> wanted;
    for (const auto& [one, used] : holders)
      wanted.insert(one);
    ASSERT_EQ(units_of(table, key), wanted) << "round " << round;
    ASSERT_EQ(table.pairs(), pairs);
  }
  for (auto& [key, holders] : reference) {
    for (const auto& [unit, used] : holders) {
      ASSERT_EQ(table.take_used(key, unit), used);
      table.erase(key, unit);
    }
  }
  EXPECT_EQ(table.pairs(), 0U);
}

}  // namespace
}  // namespace pleiad::router
