#include "sched/page_pool.h"

#include <map>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include "base/random.h"

namespace pleiad::sched {
namespace {

std::vector<TokenId> tokens_from(TokenId first, std::size_t count) {
  std::vector<TokenId> tokens(count);
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

// Takes and publishes pages for all whole pages of `tokens`.
std::vector<PageId> fill(PagePool& pool, std::uint64_t root, std::span<const TokenId> tokens) {
  std::vector<PageId> chain;
  for (std::size_t i = 0; (i + 1) * kPageTokens <= tokens.size(); ++i) {
    const PageId page = pool.take();
    pool.publish(root, chain, page, tokens.subspan(i * kPageTokens, kPageTokens));
    chain.push_back(page);
  }
  return chain;
}

TEST(PagePool, FindsWhatWasPublishedPageByPage) {
  PagePool pool({.pages = 8});
  const std::uint64_t root = PagePool::root("");
  const auto tokens = tokens_from(0, 200);
  const auto chain = fill(pool, root, tokens);
  pool.release(chain);

  std::vector<PageId> found;
  pool.find(root, tokens, 8, found);

  EXPECT_EQ(found, chain);
  EXPECT_EQ(found.size(), 3U);
  EXPECT_EQ(pool.held(), 3);
}

TEST(PagePool, ADifferentTokenEndsTheMatch) {
  PagePool pool({.pages = 8});
  const std::uint64_t root = PagePool::root("");
  auto tokens = tokens_from(0, 192);
  pool.release(fill(pool, root, tokens));
  tokens[100] = 7;

  EXPECT_EQ(pool.count_match(root, tokens, 8), 1U);
}

TEST(PagePool, SaltsKeepTreesApart) {
  PagePool pool({.pages = 8});
  const auto tokens = tokens_from(0, 64);
  pool.release(fill(pool, PagePool::root("alice"), tokens));

  EXPECT_EQ(pool.count_match(PagePool::root("alice"), tokens, 8), 1U);
  EXPECT_EQ(pool.count_match(PagePool::root("bob"), tokens, 8), 0U);
}

TEST(PagePool, EvictsTheLeastRecentlyUsedAndChildrenBeforeParents) {
  PagePool pool({.pages = 4});
  const std::uint64_t root = PagePool::root("");
  const auto old_tokens = tokens_from(0, 128);
  const auto new_tokens = tokens_from(1000, 128);
  pool.release(fill(pool, root, old_tokens));
  pool.release(fill(pool, root, new_tokens));
  EXPECT_EQ(pool.available(), 4);

  const PageId page = pool.take();

  EXPECT_EQ(pool.count_match(root, old_tokens, 8), 1U);
  EXPECT_EQ(pool.count_match(root, new_tokens, 8), 2U);
  EXPECT_EQ(pool.evictions(), 1U);
  pool.release(std::vector{page});
}

TEST(PagePool, AnEqualPageOfAnotherSequenceStaysPrivate) {
  PagePool pool({.pages = 4});
  const std::uint64_t root = PagePool::root("");
  const auto tokens = tokens_from(0, 64);
  const auto first = fill(pool, root, tokens);
  const auto second = fill(pool, root, tokens);

  pool.release(second);
  EXPECT_EQ(pool.cached(), 0);
  pool.release(first);
  EXPECT_EQ(pool.cached(), 1);
}

TEST(PagePool, DropCachedFreesOnlyWhatNobodyHolds) {
  PagePool pool({.pages = 4});
  const std::uint64_t root = PagePool::root("");
  const auto kept = fill(pool, root, tokens_from(0, 64));
  pool.release(fill(pool, root, tokens_from(500, 64)));

  pool.drop_cached();

  EXPECT_EQ(pool.cached(), 0);
  EXPECT_EQ(pool.held(), 1);
  EXPECT_EQ(pool.count_match(root, tokens_from(0, 64), 8), 1U);
  pool.release(kept);
}

TEST(PagePool, WithoutThePrefixCacheNothingIsFound) {
  PagePool pool({.pages = 4, .prefix_cache = false});
  const auto tokens = tokens_from(0, 64);
  pool.release(fill(pool, PagePool::root(""), tokens));

  EXPECT_EQ(pool.count_match(PagePool::root(""), tokens, 8), 0U);
  EXPECT_EQ(pool.available(), 4);
}

TEST(PagePoolDeathTest, ReleasingTwiceIsABrokenInvariant) {
  PagePool pool({.pages = 4});
  const std::vector<PageId> pages = {pool.take()};
  pool.release(pages);

  EXPECT_DEATH(pool.release(pages), "nobody holds");
}

// Random takes, publishes, finds and releases against a plain model: page counts always add up, and
// a found chain always holds exactly the tokens asked for.
TEST(PagePool, RandomUseConservesPagesAndNeverFindsWrongTokens) {
  constexpr std::uint64_t kSeed = 11;
  SCOPED_TRACE(kSeed);
  Random random(kSeed);
  PagePool pool({.pages = 24});
  const std::uint64_t root = PagePool::root("");
  std::map<PageId, std::vector<TokenId>> written;
  std::vector<std::vector<PageId>> sequences;
  for (int round = 0; round < 3000; ++round) {
    if (!sequences.empty() && (random.below(2) == 0 || pool.available() < 6)) {
      const std::size_t at = random.below(sequences.size());
      pool.release(sequences[at]);
      sequences.erase(sequences.begin() + static_cast<std::ptrdiff_t>(at));
      continue;
    }
    // Few distinct pages, so that prefixes repeat.
    std::vector<TokenId> tokens;
    const std::size_t length = 1 + random.below(4);
    for (std::size_t i = 0; i < length; ++i) {
      tokens.insert(tokens.end(), kPageTokens, static_cast<TokenId>(random.below(2)));
    }
    std::vector<PageId> chain;
    pool.find(root, tokens, length, chain);
    for (std::size_t i = 0; i < chain.size(); ++i) {
      const std::vector<TokenId> expected(
          tokens.begin() + static_cast<std::ptrdiff_t>(i * kPageTokens),
          tokens.begin() + static_cast<std::ptrdiff_t>((i + 1) * kPageTokens)
      );
      ASSERT_EQ(written[chain[i]], expected);
    }
    while (chain.size() < length && pool.available() > 0) {
      const std::span<const TokenId> page_tokens =
          std::span<const TokenId>(tokens).subspan(chain.size() * kPageTokens, kPageTokens);
      const PageId page = pool.take();
      written[page] = {page_tokens.begin(), page_tokens.end()};
      pool.publish(root, chain, page, page_tokens);
      chain.push_back(page);
    }
    sequences.push_back(chain);
    ASSERT_EQ(pool.held() + pool.available(), pool.total());
  }
  for (const auto& chain : sequences)
    pool.release(chain);
  EXPECT_EQ(pool.held(), 0);
}

}  // namespace
}  // namespace pleiad::sched
