#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/token.h"
#include "router/holder_table.h"

namespace pleiad::router {

inline constexpr std::size_t kPageTokens = 64;

// A prompt is known by keys at some of its page ends, each of which stands for all tokens up to
// there: every page at first, then eight in each doubling, so that the length of what two prompts
// share is known to a ninth, and a prompt of 128 k tokens has 72 keys and not 2048. Equal keys mean
// equal prefixes (but for collisions of 64 bits, which cost time and never a token).
std::vector<std::uint64_t> prefix_keys(std::string_view salt, std::span<const TokenId> prompt);
// Pages that key `index` of a prompt stands for.
std::size_t pages_at(std::size_t index);

// Which units probably have which prefixes in their caches: what the router sent there, as far as
// the unit's cache can hold it. What has not been used goes first: a hand goes round over what the
// unit has, in order of arrival, and takes what was not used since it came by (Corbató 1968); pages
// arrive after those that follow them. The router's own guess; a wrong one costs time. Not
// thread-safe. Never blocks.
class PrefixIndex {
 public:
  // Forgets what the unit has, and lets it have so many pages from now on.
  void reset_unit(UnitIndex unit, std::size_t pages_max);

  // A request with these keys went to the unit.
  void add(UnitIndex index, std::span<const std::uint64_t> keys);

  // overlap[unit] = leading pages of the keys' prompt that the unit probably has. REQUIRES: overlap
  // has a place for every unit.
  void match(std::span<const std::uint64_t> keys, std::span<std::uint32_t> overlap) const;

  // (unit, key) pairs.
  [[nodiscard]] std::size_t size() const { return table_.pairs(); }
  [[nodiscard]] std::size_t pages_of(UnitIndex unit) const { return units_[unit].pages; }

 private:
  // That a unit has the pages of a key beyond those of the key before it.
  struct Entry {
    std::uint64_t key = 0;
    std::size_t pages = 0;
  };
  struct Unit {
    std::vector<Entry> ring;  // a power of two of places
    std::size_t first = 0;    // where the hand is
    std::size_t count = 0;
    std::size_t pages = 0;
    std::size_t pages_max = 0;
  };

  static void push(Unit& unit, const Entry& entry);
  static Entry pop(Unit& unit);
  void make_room(UnitIndex index);

  HolderTable table_;
  std::vector<Unit> units_;
};

}  // namespace pleiad::router
