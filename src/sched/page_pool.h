#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/id.h"
#include "base/token.h"

namespace pleiad::sched {

using PageId = Id<struct PageTag, std::uint32_t>;

// Tokens in one page of the KV cache.
inline constexpr std::int64_t kPageTokens = 64;

// Who holds which page of the KV cache, and which full pages can be found again by their tokens: a
// prefix tree with one node per page. A page is free, held by one or more sequences, or cached
// (full, findable, held by nobody) and then evictable, least recently used first.
//
// A node is found by (parent node, its 64 tokens); the tokens are compared on every hit, so a hash
// collision can cost time, never a wrong prefix. Trees of different salts are disjoint.
//
// All memory is taken at construction. Not thread-safe. Never blocks.
class PagePool {
 public:
  struct Options {
    std::int64_t pages = 0;
    bool prefix_cache = true;
  };

  explicit PagePool(const Options& options);

  [[nodiscard]] std::int64_t total() const { return static_cast<std::int64_t>(nodes_.size()); }
  // Pages that take() can still hand out: free ones and evictable ones.
  [[nodiscard]] std::int64_t available() const { return free_count_ + cached_count_; }
  [[nodiscard]] std::int64_t cached() const { return cached_count_; }
  [[nodiscard]] std::int64_t held() const { return total() - available(); }
  [[nodiscard]] std::uint64_t evictions() const { return evictions_; }

  // The root of the tree of `salt`, to be given to find() and publish() as the first parent.
  [[nodiscard]] static std::uint64_t root(std::string_view salt);

  // Holds the longest chain of cached or held pages whose tokens start `tokens`, at most
  // `pages_max` of them, and appends it to `chain`. Only whole pages match.
  void find(
      std::uint64_t root,
      std::span<const TokenId> tokens,
      std::size_t pages_max,
      std::vector<PageId>& chain
  );
  // How many pages find() would give; holds nothing.
  [[nodiscard]] std::size_t
  count_match(std::uint64_t root, std::span<const TokenId> tokens, std::size_t pages_max) const;

  // Takes a page, evicting a cached one when none is free. REQUIRES: available() > 0.
  PageId take();

  // Makes a held, full page findable under `chain` (the pages before it in its sequence). Does
  // nothing when the prefix cache is off or an equal page is published already: the page then stays
  // private.
  void publish(
      std::uint64_t root,
      std::span<const PageId> chain,
      PageId page,
      std::span<const TokenId> tokens
  );

  // Lets go of a sequence's pages, given in order. Published pages that nobody holds become
  // evictable, others free.
  void release(std::span<const PageId> pages);

  // Frees every cached page.
  void drop_cached();

 private:
  static constexpr std::uint32_t kNone = UINT32_MAX;

  struct Node {
    std::uint64_t key = 0;         // of (parent, tokens); 0: not published
    std::uint64_t parent_key = 0;  // key of the parent, or the root
    std::uint32_t holders = 0;
    std::uint32_t next_in_bucket = kNone;
    std::uint32_t older = kNone;  // neighbours in the list of evictable pages
    std::uint32_t newer = kNone;
    std::uint32_t parent = kNone;  // parent's page, kNone under the root
  };

  [[nodiscard]] std::span<TokenId> tokens_of(std::uint32_t page);
  [[nodiscard]] std::span<const TokenId> tokens_of(std::uint32_t page) const;
  [[nodiscard]] std::uint32_t lookup(
      std::uint64_t root,
      std::uint32_t parent,
      std::uint64_t key,
      std::span<const TokenId> tokens
  ) const;
  void hold(std::uint32_t page);
  void unlink_evictable(std::uint32_t page);
  void link_newest(std::uint32_t page);
  void unpublish(std::uint32_t page);

  bool prefix_cache_;
  std::vector<Node> nodes_;
  std::vector<TokenId> tokens_;         // [pages, 64] of published pages
  std::vector<std::uint32_t> buckets_;  // hash table of published pages, chained by next_in_bucket
  std::vector<std::uint32_t> free_;
  std::int64_t free_count_ = 0;
  std::int64_t cached_count_ = 0;
  std::uint32_t oldest_ = kNone;
  std::uint32_t newest_ = kNone;
  std::uint64_t evictions_ = 0;
};

}  // namespace pleiad::sched
