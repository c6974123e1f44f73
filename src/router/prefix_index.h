#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/token.h"

namespace pleiad::router {

// A place that requests can go to: one dp rank of one worker, by its number in the router's tables.
using UnitIndex = std::uint32_t;

// Whole pages of a prompt, each as one number that stands for all tokens up to its end: equal
// numbers mean equal prefixes (but for collisions of 64 bits, which cost time and never a token).
inline constexpr std::size_t kPageTokens = 64;
std::vector<std::uint64_t> page_keys(std::string_view salt, std::span<const TokenId> prompt);

// Which units probably have which prefixes in their caches: what the router sent there, page by
// page, as far as the unit's cache can hold it, least recently used out first. The router's own
// guess; a wrong one costs time. Not thread-safe. Never blocks.
class PrefixIndex {
 public:
  // Forgets what the unit has, and lets it have so many pages from now on.
  void reset_unit(UnitIndex unit, std::size_t pages_max);

  // A request with these pages went to the unit.
  void add(UnitIndex unit, std::span<const std::uint64_t> keys);

  // overlap[unit] = leading pages of `keys` that the unit probably has. REQUIRES: overlap has a
  // place for every unit. Takes time of order keys + units that have the first page.
  void match(std::span<const std::uint64_t> keys, std::span<std::uint32_t> overlap) const;

  // (unit, page) pairs.
  [[nodiscard]] std::size_t size() const { return entries_.size() - free_.size(); }
  [[nodiscard]] std::size_t size_of(UnitIndex unit) const { return units_[unit].pages; }

 private:
  static constexpr std::uint32_t kNone = UINT32_MAX;

  // That a unit has a page.
  struct Entry {
    std::uint64_t key = 0;
    UnitIndex unit = 0;
    std::uint32_t older = kNone;  // neighbours in the unit's order of use
    std::uint32_t newer = kNone;
  };
  struct Unit {
    std::uint32_t oldest = kNone;
    std::uint32_t newest = kNone;
    std::size_t pages = 0;
    std::size_t pages_max = 0;
  };
  struct Holder {
    UnitIndex unit = 0;
    std::uint32_t entry = 0;
  };

  std::uint32_t find(UnitIndex unit, std::uint64_t key) const;
  void insert(UnitIndex unit, std::uint64_t key);
  void touch(std::uint32_t entry);
  void unlink(std::uint32_t entry);
  void link_newest(std::uint32_t entry);
  void drop(std::uint32_t entry);

  // Units that have a page; those that have the page after it are among them.
  std::unordered_map<std::uint64_t, std::vector<Holder>> holders_;
  std::vector<Entry> entries_;
  std::vector<std::uint32_t> free_;
  std::vector<Unit> units_;
};

}  // namespace pleiad::router
