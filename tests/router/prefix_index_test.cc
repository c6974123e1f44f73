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

TEST(PrefixKeys, StandForAllTokensBeforeTheirEnd) {
  Random random(1);
  auto prompt = tokens(random, 200);
  const auto keys = prefix_keys("", prompt);
  ASSERT_EQ(keys.size(), 3U);  // whole pages only
  prompt[199] += 1;
  EXPECT_EQ(prefix_keys("", prompt), keys);
  prompt[64] += 1;
  const auto other = prefix_keys("", prompt);
  EXPECT_EQ(other[0], keys[0]);
  EXPECT_NE(other[1], keys[1]);
  EXPECT_NE(other[2], keys[2]);
  EXPECT_NE(prefix_keys("tenant", prompt)[0], keys[0]);
  EXPECT_TRUE(prefix_keys("", std::span(prompt).first(63)).empty());
}

TEST(PrefixKeys, AreEveryPageAtFirstAndThenEightInEachDoubling) {
  std::vector<std::size_t> pages;
  for (std::size_t i = 0; i < 26; ++i)
    pages.push_back(pages_at(i));
  EXPECT_THAT(
      pages,
      ElementsAre(
          1,
          2,
          3,
          4,
          5,
          6,
          7,
          8,
          9,
          10,
          11,
          12,
          13,
          14,
          15,
          16,
          18,
          20,
          22,
          24,
          26,
          28,
          30,
          32,
          36,
          40
      )
  );
  EXPECT_EQ(pages_at(71), 2048U);
  EXPECT_EQ(prefix_keys("", std::vector<TokenId>(131072)).size(), 72U);
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

TEST(PrefixIndex, AUnitKeepsWhatItUsedAndNeverAPageWithoutThoseBefore) {
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
  EXPECT_EQ(index.pages_of(0), 4U);
  index.add(0, std::vector<std::uint64_t>{11, 12, 13, 14, 15, 16});  // longer than all there is
  index.match(std::vector<std::uint64_t>{11, 12, 13, 14, 15, 16}, overlap);
  EXPECT_THAT(overlap, ElementsAre(4));
}

TEST(PrefixIndex, CountsThePagesThatKeysStandFor) {
  PrefixIndex index;
  index.reset_unit(0, 100);
  Random random(1);
  index.add(0, prefix_keys("", tokens(random, 64 * kPageTokens)));
  EXPECT_EQ(index.pages_of(0), 64U);
  EXPECT_EQ(index.size(), 32U);
  index.reset_unit(0, 20);  // of 64 pages the first 20 would fit
  index.add(0, prefix_keys("", tokens(random, 64 * kPageTokens)));
  EXPECT_EQ(index.pages_of(0), 20U);
}

// A slow index: for each unit what it has in order of arrival, with what was used since the hand
// came by.
class Reference {
 public:
  Reference(std::size_t units, std::size_t pages_max) : pages_(units), pages_max_(pages_max) {}

  void add(UnitIndex unit, std::span<const std::uint64_t> keys) {
    std::list<Page>& pages = pages_[unit];
    const auto kept = keys.first(std::min(keys.size(), pages_max_));
    for (std::size_t i = kept.size(); i-- > 0;) {
      const auto at = std::ranges::find(pages, kept[i], &Page::key);
      if (at != pages.end()) {
        at->used = true;
      } else {
        pages.push_back({kept[i]});
      }
    }
    while (pages.size() > pages_max_) {
      if (pages.front().used) pages.push_back({pages.front().key});
      pages.pop_front();
    }
  }

  // Of the deepest key that it has.
  [[nodiscard]] std::uint32_t match(UnitIndex unit, std::span<const std::uint64_t> keys) const {
    for (std::size_t depth = keys.size(); depth > 0; --depth) {
      const auto at = std::ranges::find(pages_[unit], keys[depth - 1], &Page::key);
      if (at != pages_[unit].end()) return static_cast<std::uint32_t>(depth);
    }
    return 0;
  }

 private:
  struct Page {
    std::uint64_t key = 0;
    bool used = false;
  };
  std::vector<std::list<Page>> pages_;
  std::size_t pages_max_;
};

// Few units, whose numbers stand in slots, and many, which become bits.
TEST(PrefixIndex, AgreesWithASlowOneOverRandomTraffic) {
  const std::uint64_t seed = entropy_seed();
  SCOPED_TRACE("seed " + std::to_string(seed));
  Random random(seed);
  for (const std::size_t units : {5U, 150U}) {
    constexpr std::size_t kPages = 12;
    PrefixIndex index;
    for (UnitIndex unit = 0; unit < units; ++unit)
      index.reset_unit(unit, kPages);
    Reference reference(units, kPages);
    std::size_t differing = 0;
    for (int round = 0; round < 3000; ++round) {
      // A walk down a tree of three branches a level.
      std::vector<std::uint64_t> keys;
      std::uint64_t key = 1;
      const std::uint64_t depth = 1 + random.below(6);
      for (std::uint64_t level = 0; level < depth; ++level)
        keys.push_back(key = key * 3 + random.below(3));
      std::vector<std::uint32_t> overlap(units);
      index.match(keys, overlap);
      for (UnitIndex unit = 0; unit < units; ++unit) {
        // A page that nobody has ends the search, though another may follow it somewhere.
        ASSERT_LE(overlap[unit], reference.match(unit, keys)) << "round " << round;
        if (overlap[unit] != reference.match(unit, keys)) ++differing;
      }
      const auto unit = static_cast<UnitIndex>(random.below(units));
      index.add(unit, keys);
      reference.add(unit, keys);
    }
    EXPECT_LT(differing, 3000 * units / 50);
  }
}

}  // namespace
}  // namespace pleiad::router
