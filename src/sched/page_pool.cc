#include "sched/page_pool.h"

#include <algorithm>
#include <bit>

#include "base/check.h"

namespace pleiad::sched {
namespace {

std::uint64_t mix(std::uint64_t hash, std::uint64_t value) {
  hash ^= value + 0x9E3779B97F4A7C15ULL + (hash << 6U) + (hash >> 2U);
  hash *= 0xFF51AFD7ED558CCDULL;
  return hash ^ (hash >> 32U);
}

// The key of a page below `parent_key`; never 0, which marks unpublished nodes.
std::uint64_t key_of(std::uint64_t parent_key, std::span<const TokenId> tokens) {
  std::uint64_t hash = parent_key;
  for (const TokenId token : tokens) {
    hash = mix(hash, token);
  }
  return hash == 0 ? 1 : hash;
}

}  // namespace

PagePool::PagePool(const Options& options)
    : prefix_cache_(options.prefix_cache), free_count_(options.pages) {
  PLEIAD_CHECK(options.pages > 0 && options.pages < std::int64_t{kNone});
  const auto pages = static_cast<std::size_t>(options.pages);
  nodes_.resize(pages);
  tokens_.resize(prefix_cache_ ? pages * static_cast<std::size_t>(kPageTokens) : 0);
  buckets_.assign(std::bit_ceil(pages * 2), kNone);
  free_.resize(pages);
  // Handed out from the back: page 0 first.
  for (std::size_t i = 0; i < pages; ++i) {
    free_[i] = static_cast<std::uint32_t>(pages - 1 - i);
  }
}

std::uint64_t PagePool::root(std::string_view salt) {
  std::uint64_t hash = 0x5851F42D4C957F2DULL;
  for (const char c : salt) {
    hash = mix(hash, static_cast<unsigned char>(c));
  }
  return mix(hash, salt.size());
}

std::span<TokenId> PagePool::tokens_of(std::uint32_t page) {
  return std::span(tokens_).subspan(page * static_cast<std::size_t>(kPageTokens), kPageTokens);
}

std::span<const TokenId> PagePool::tokens_of(std::uint32_t page) const {
  return std::span(tokens_).subspan(page * static_cast<std::size_t>(kPageTokens), kPageTokens);
}

std::uint32_t PagePool::lookup(
    std::uint64_t root,
    std::uint32_t parent,
    std::uint64_t key,
    std::span<const TokenId> tokens
) const {
  const std::uint64_t parent_key = parent == kNone ? root : nodes_[parent].key;
  std::uint32_t page = buckets_[key & (buckets_.size() - 1)];
  while (page != kNone) {
    const Node& node = nodes_[page];
    const bool same_place =
        node.key == key && node.parent == parent && node.parent_key == parent_key;
    if (same_place && std::ranges::equal(tokens_of(page), tokens)) return page;
    page = node.next_in_bucket;
  }
  return kNone;
}

void PagePool::find(
    std::uint64_t root,
    std::span<const TokenId> tokens,
    std::size_t pages_max,
    std::vector<PageId>& chain
) {
  if (!prefix_cache_) return;
  std::uint32_t parent = kNone;
  std::uint64_t parent_key = root;
  for (std::size_t i = 0; i < pages_max && (i + 1) * kPageTokens <= tokens.size(); ++i) {
    const auto page_tokens = tokens.subspan(i * kPageTokens, kPageTokens);
    const std::uint64_t key = key_of(parent_key, page_tokens);
    const std::uint32_t page = lookup(root, parent, key, page_tokens);
    if (page == kNone) return;
    hold(page);
    chain.emplace_back(page);
    parent = page;
    parent_key = key;
  }
}

std::size_t PagePool::count_match(
    std::uint64_t root,
    std::span<const TokenId> tokens,
    std::size_t pages_max
) const {
  if (!prefix_cache_) return 0;
  std::uint32_t parent = kNone;
  std::uint64_t parent_key = root;
  std::size_t count = 0;
  while (count < pages_max && (count + 1) * kPageTokens <= tokens.size()) {
    const auto page_tokens = tokens.subspan(count * kPageTokens, kPageTokens);
    parent_key = key_of(parent_key, page_tokens);
    parent = lookup(root, parent, parent_key, page_tokens);
    if (parent == kNone) break;
    ++count;
  }
  return count;
}

PageId PagePool::take() {
  PLEIAD_CHECK(available() > 0, "no page left");
  std::uint32_t page = kNone;
  if (free_count_ > 0) {
    page = free_[static_cast<std::size_t>(--free_count_)];
  } else {
    page = oldest_;
    unlink_evictable(page);
    --cached_count_;
    unpublish(page);
    ++evictions_;
  }
  nodes_[page].holders = 1;
  return PageId(page);
}

void PagePool::publish(
    std::uint64_t root,
    std::span<const PageId> chain,
    PageId page,
    std::span<const TokenId> tokens
) {
  if (!prefix_cache_) return;
  PLEIAD_CHECK(static_cast<std::int64_t>(tokens.size()) == kPageTokens);
  const std::uint32_t parent = chain.empty() ? kNone : chain.back().value();
  // Below a private page nothing can be found: its twin elsewhere carries the tree.
  if (parent != kNone && nodes_[parent].key == 0) return;
  const std::uint64_t parent_key = parent == kNone ? root : nodes_[parent].key;
  const std::uint64_t key = key_of(parent_key, tokens);
  if (lookup(root, parent, key, tokens) != kNone) return;
  Node& node = nodes_[page.index()];
  PLEIAD_CHECK(node.holders > 0 && node.key == 0, "publish() wants a held, unpublished page");
  node.key = key;
  node.parent_key = parent_key;
  node.parent = parent;
  std::ranges::copy(tokens, tokens_of(page.value()).begin());
  std::uint32_t& bucket = buckets_[key & (buckets_.size() - 1)];
  node.next_in_bucket = bucket;
  bucket = page.value();
}

void PagePool::release(std::span<const PageId> pages) {
  // From the end: a page becomes evictable before its parent, so a parent never goes first.
  for (std::size_t i = pages.size(); i-- > 0;) {
    const std::uint32_t page = pages[i].value();
    Node& node = nodes_[page];
    PLEIAD_CHECK(node.holders > 0, "released a page that nobody holds");
    if (--node.holders > 0) continue;
    if (node.key == 0) {
      free_[static_cast<std::size_t>(free_count_++)] = page;
    } else {
      link_newest(page);
      ++cached_count_;
    }
  }
}

void PagePool::drop_cached() {
  while (oldest_ != kNone) {
    const std::uint32_t page = oldest_;
    unlink_evictable(page);
    --cached_count_;
    unpublish(page);
    free_[static_cast<std::size_t>(free_count_++)] = page;
  }
}

void PagePool::hold(std::uint32_t page) {
  if (nodes_[page].holders++ == 0) {
    unlink_evictable(page);
    --cached_count_;
  }
}

void PagePool::unlink_evictable(std::uint32_t page) {
  Node& node = nodes_[page];
  (node.older == kNone ? oldest_ : nodes_[node.older].newer) = node.newer;
  (node.newer == kNone ? newest_ : nodes_[node.newer].older) = node.older;
  node.older = kNone;
  node.newer = kNone;
}

void PagePool::link_newest(std::uint32_t page) {
  Node& node = nodes_[page];
  node.older = newest_;
  node.newer = kNone;
  (newest_ == kNone ? oldest_ : nodes_[newest_].newer) = page;
  newest_ = page;
}

void PagePool::unpublish(std::uint32_t page) {
  Node& node = nodes_[page];
  std::uint32_t* link = &buckets_[node.key & (buckets_.size() - 1)];
  while (*link != page) {
    link = &nodes_[*link].next_in_bucket;
  }
  *link = node.next_in_bucket;
  node.key = 0;
  node.parent = kNone;
  node.next_in_bucket = kNone;
}

}  // namespace pleiad::sched
