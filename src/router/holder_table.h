#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace pleiad::router {

// A place that requests can go to: one dp rank of one worker, by its number in the router's tables.
using UnitIndex = std::uint32_t;

// Which units hold which keys, and whether each pair was used since it was last asked for that. A
// hash table whose lookup costs one line of memory: up to five holders stand in the key's own slot,
// more of them in a set of bits. 64 bytes for a key that few hold. Keys are well mixed and not 0.
// Not thread-safe.
class HolderTable {
 public:
  // The holders of a key: either few, by number, or many, as bits.
  struct Holders {
    std::array<UnitIndex, 5> few{};
    std::uint32_t few_count = 0;
    std::span<const std::uint64_t> many;  // bit `unit` of these words
    [[nodiscard]] bool none() const { return few_count == 0 && many.empty(); }
  };

  HolderTable() : slots_(kSlotsMin) {}

  // Whether the pair is there; it counts as used then.
  bool touch(std::uint64_t key, UnitIndex unit);
  // REQUIRES: the pair is not there, as touch() has told.
  void insert(std::uint64_t key, UnitIndex unit);
  // Whether the pair was used since it came or since this was asked. REQUIRES: it is there.
  bool take_used(std::uint64_t key, UnitIndex unit);
  // REQUIRES: the pair is there.
  void erase(std::uint64_t key, UnitIndex unit);
  // Valid until the next change.
  [[nodiscard]] Holders holders(std::uint64_t key) const;

  // Has the processor read a key's slot, for a call soon.
  void prefetch(std::uint64_t key) const { __builtin_prefetch(&slots_[home(key)]); }
  // Likewise the bits of a key that many hold; reads its slot.
  void prefetch_many(std::uint64_t key) const;
  // (key, unit) pairs.
  [[nodiscard]] std::size_t pairs() const { return pairs_; }

 private:
  static constexpr std::size_t kSlotsMin = 1024;
  static constexpr std::uint32_t kFew = 5;
  static constexpr std::uint32_t kUsed = 1U << 31U;  // beside a unit's number

  struct alignas(32) Slot {
    std::uint64_t key = 0;  // 0: free
    std::uint32_t count = 0;
    std::array<std::uint32_t, kFew> units{};  // or, of more, the number of their set first
  };
  [[nodiscard]] std::size_t home(std::uint64_t key) const { return key & (slots_.size() - 1); }
  [[nodiscard]] std::size_t find(std::uint64_t key) const;
  Slot& at(std::uint64_t key);
  static std::uint32_t* pair_of(Slot& slot, UnitIndex unit);
  void spread(Slot& slot);
  void gather(Slot& slot);
  // The word of a set that has a unit's bit.
  [[nodiscard]] std::size_t word_of(const Slot& slot, UnitIndex unit) const {
    return slot.units[0] * words_ + unit / 64;
  }
  void widen(std::size_t words);
  void free_slot(std::size_t index);
  void grow();

  std::vector<Slot> slots_;  // open addressing, a power of two, at most half full
  std::size_t keys_ = 0;
  std::size_t pairs_ = 0;
  // Sets of units as bits: set `n` has words_ words from n * words_ on in both.
  std::vector<std::uint64_t> held_;
  std::vector<std::uint64_t> used_;
  std::size_t words_ = 4;
  std::vector<std::uint32_t> free_sets_;
};

}  // namespace pleiad::router
