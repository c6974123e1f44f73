#include "router/prefix_index.h"

#include <algorithm>
#include <list>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"

namespace pleiad::router {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;

std::vector<TokenId> tokens(Random& random, std::size_t count) {
  std::vector<TokenId> out(count);
  for (TokenId& token : out)
    token = static_cast<TokenId>(random.below(3));
  return out;
}

TEST(PageKeys, StandForAllTokensBeforeTheirEnd) {
  Random random(1);
  auto prompt = tokens(random, 200);
  const auto keys = page_keys("", prompt);
  ASSERT_EQ(keys.size(), 3U);  // whole pages only
  prompt[199] += 1;
  EXPECT_EQ(page_keys("", prompt), keys);
  prompt[64] += 1;
  const auto other = page_keys("", prompt);
  EXPECT_EQ(other[0], keys[0]);
  EXPECT_NE(other[1], keys[1]);
  EXPECT_NE(other[2], keys[2]);
  EXPECT_NE(page_keys("tenant", prompt)[0], keys[0]);
  EXPECT_TRUE(page_keys("", std::span(prompt).first(63)).empty());
}

TEST(PrefixIndex, TellsHowMuchOfAPromptEachUnitHas) {
  PrefixIndex index;
  for (UnitIndex unit = 0; unit < 4; ++unit)
    index.reset_unit(unit, 10);
  const std::vector<std::uint64_t> prompt = {1, 2, 3, 4};
  index.add(0, prompt);
  index.add(1, std::span(prompt).first(2));
  index.add(2, std::vector<std::uint64_t>{1, 7, 8});
  std::vector<std::uint32_t> overlap(4, 99);

  index.match(prompt, overlap);
  EXPECT_THAT(overlap, ElementsAre(4, 2, 1, 0));
  index.match(std::vector<std::uint64_t>{9}, overlap);
  EXPECT_THAT(overlap, Each(0));
  index.reset_unit(0, 10);
  index.match(prompt, overlap);
  EXPECT_THAT(overlap, ElementsAre(0, 2, 1, 0));
  EXPECT_EQ(index.size(), 5U);
}

TEST(PrefixIndex, AUnitKeepsWhatItUsedLastAndNeverAPageWithoutThoseBefore) {
  PrefixIndex index;
  index.reset_unit(0, 4);
  index.add(0, std::vector<std::uint64_t>{1, 2});
  index.add(0, std::vector<std::uint64_t>{5, 6});
  index.add(0, std::vector<std::uint64_t>{1, 2});  // used again
  index.add(0, std::vector<std::uint64_t>{8});     // no room: 6 goes, not 5 or 2
  std::vector<std::uint32_t> overlap(1);

  index.match(std::vector<std::uint64_t>{1, 2}, overlap);
  EXPECT_THAT(overlap, ElementsAre(2));
  index.match(std::vector<std::uint64_t>{5, 6}, overlap);
  EXPECT_THAT(overlap, ElementsAre(1));
  EXPECT_EQ(index.size_of(0), 4U);
  index.add(0, std::vector<std::uint64_t>{11, 12, 13, 14, 15, 16});  // longer than all there is
  index.match(std::vector<std::uint64_t>{11, 12, 13, 14, 15, 16}, overlap);
  EXPECT_THAT(overlap, ElementsAre(4));
}

// A slow index: for each unit its pages in order of use.
class Reference {
 public:
  Reference(std::size_t units, std::size_t pages_max) : pages_(units), pages_max_(pages_max) {}

  void add(UnitIndex unit, std::span<const std::uint64_t> keys) {
    std::list<std::uint64_t>& pages = pages_[unit];
    const auto kept = keys.first(std::min(keys.size(), pages_max_));
    for (std::size_t i = kept.size(); i-- > 0;) {
      pages.remove(kept[i]);
      pages.push_front(kept[i]);
    }
    while (pages.size() > pages_max_)
      pages.pop_back();
  }

  [[nodiscard]] std::uint32_t match(UnitIndex unit, std::span<const std::uint64_t> keys) const {
    std::uint32_t depth = 0;
    while (depth < keys.size() && std::ranges::count(pages_[unit], keys[depth]) > 0)
      ++depth;
    return depth;
  }

 private:
  std::vector<std::list<std::uint64_t>> pages_;
  std::size_t pages_max_;
};

TEST(PrefixIndex, AgreesWithASlowOneOverRandomTraffic) {
  const std::uint64_t seed = entropy_seed();
  SCOPED_TRACE("seed " + std::to_string(seed));
  Random random(seed);
  constexpr std::size_t kUnits = 5;
  constexpr std::size_t kPages = 12;
  PrefixIndex index;
  for (UnitIndex unit = 0; unit < kUnits; ++unit)
    index.reset_unit(unit, kPages);
  Reference reference(kUnits, kPages);
  for (int round = 0; round < 3000; ++round) {
    // A walk down a tree of three branches a level.
    std::vector<std::uint64_t> keys;
    std::uint64_t key = 1;
    const std::uint64_t depth = 1 + random.below(6);
    for (std::uint64_t level = 0; level < depth; ++level)
      keys.push_back(key = key * 3 + random.below(3));
    std::vector<std::uint32_t> overlap(kUnits);
    index.match(keys, overlap);
    for (UnitIndex unit = 0; unit < kUnits; ++unit)
      ASSERT_EQ(overlap[unit], reference.match(unit, keys)) << "round " << round;
    const auto unit = static_cast<UnitIndex>(random.below(kUnits));
    index.add(unit, keys);
    reference.add(unit, keys);
  }
}

}  // namespace
}  // namespace pleiad::router
