#include "router/holder_table.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "base/check.h"

namespace pleiad::router {
namespace {

constexpr std::uint64_t bit(UnitIndex unit) {
  return std::uint64_t{1} << (unit % 64U);
}

constexpr std::size_t kLine = 8;  // words that one read of memory brings

}  // namespace

// The key's slot, or the free one where it would go.
std::size_t HolderTable::find(std::uint64_t key) const {
  std::size_t index = home(key);
  while (slots_[index].key != key && slots_[index].key != 0) {
    index = (index + 1) & (slots_.size() - 1);
  }
  return index;
}

HolderTable::Slot& HolderTable::at(std::uint64_t key) {
  Slot& slot = slots_[find(key)];
  PLEIAD_CHECK(slot.key == key, "nobody holds that key");
  return slot;
}

// REQUIRES: few hold the slot's key.
std::uint32_t* HolderTable::pair_of(Slot& slot, UnitIndex unit) {
  for (std::uint32_t i = 0; i < slot.count; ++i) {
    if ((slot.units[i] & ~kUsed) == unit) return &slot.units[i];
  }
  return nullptr;
}

bool HolderTable::touch(std::uint64_t key, UnitIndex unit) {
  Slot& slot = slots_[find(key)];
  if (slot.count > kFew) {
    if (unit / 64 >= words_) return false;
    const std::size_t word = word_of(slot, unit);
    if ((held_[word] & bit(unit)) == 0) return false;
    used_[word] |= bit(unit);
    return true;
  }
  std::uint32_t* pair = pair_of(slot, unit);
  if (pair == nullptr) return false;
  *pair |= kUsed;
  return true;
}

void HolderTable::insert(std::uint64_t key, UnitIndex unit) {
  if (2 * (keys_ + 1) > slots_.size()) grow();
  Slot& slot = slots_[find(key)];
  if (slot.key == 0) {
    slot.key = key;
    ++keys_;
  }
  ++pairs_;
  if (slot.count < kFew) {
    slot.units[slot.count++] = unit;
    return;
  }
  if (unit / 64 >= words_) widen(std::max<std::size_t>(2 * words_, unit / 64 + 1));
  if (slot.count == kFew) spread(slot);
  held_[word_of(slot, unit)] |= bit(unit);
  ++slot.count;
}

bool HolderTable::take_used(std::uint64_t key, UnitIndex unit) {
  Slot& slot = at(key);
  if (slot.count > kFew) {
    std::uint64_t& word = used_[word_of(slot, unit)];
    const bool used = (word & bit(unit)) != 0;
    word &= ~bit(unit);
    return used;
  }
  std::uint32_t* pair = pair_of(slot, unit);
  const bool used = (*pair & kUsed) != 0;
  *pair &= ~kUsed;
  return used;
}

void HolderTable::erase(std::uint64_t key, UnitIndex unit) {
  const std::size_t index = find(key);
  Slot& slot = slots_[index];
  PLEIAD_CHECK(slot.key == key, "nobody holds that key");
  --pairs_;
  if (slot.count > kFew) {
    const std::size_t word = word_of(slot, unit);
    held_[word] &= ~bit(unit);
    used_[word] &= ~bit(unit);
    --slot.count;
    if (slot.count == kFew) gather(slot);
    return;
  }
  *pair_of(slot, unit) = slot.units[slot.count - 1];
  if (--slot.count == 0) free_slot(index);
}

// From the slot into a set of bits.
void HolderTable::spread(Slot& slot) {
  const std::array<std::uint32_t, kFew> pairs = slot.units;
  for (const std::uint32_t pair : pairs) {
    const std::size_t word = (pair & ~kUsed) / 64;
    if (word >= words_) widen(std::max(2 * words_, word + 1));
  }
  if (free_sets_.empty()) {
    free_sets_.push_back(static_cast<std::uint32_t>(held_.size() / words_));
    held_.resize(held_.size() + words_);
    used_.resize(used_.size() + words_);
  }
  slot.units[0] = free_sets_.back();
  free_sets_.pop_back();
  for (const std::uint32_t pair : pairs) {
    const UnitIndex unit = pair & ~kUsed;
    held_[word_of(slot, unit)] |= bit(unit);
    if ((pair & kUsed) != 0) used_[word_of(slot, unit)] |= bit(unit);
  }
}

// And back; the set is left empty.
void HolderTable::gather(Slot& slot) {
  const std::size_t first = slot.units[0] * words_;
  free_sets_.push_back(slot.units[0]);
  std::size_t next = 0;
  for (std::size_t word = 0; word < words_; ++word) {
    for (std::uint64_t bits = held_[first + word]; bits != 0; bits &= bits - 1) {
      const auto unit =
          static_cast<UnitIndex>(word * 64 + static_cast<std::size_t>(std::countr_zero(bits)));
      const bool used = (used_[first + word] & bit(unit)) != 0;
      slot.units[next++] = used ? unit | kUsed : unit;
    }
    held_[first + word] = 0;
    used_[first + word] = 0;
  }
}

// More words for every set.
void HolderTable::widen(std::size_t words) {
  const std::size_t sets = held_.size() / words_;
  for (std::vector<std::uint64_t>* bits : {&held_, &used_}) {
    std::vector<std::uint64_t> wide(sets * words);
    for (std::size_t set = 0; set < sets; ++set) {
      std::copy_n(bits->data() + set * words_, words_, wide.data() + set * words);
    }
    *bits = std::move(wide);
  }
  words_ = words;
}

void HolderTable::prefetch_many(std::uint64_t key) const {
  const Slot& slot = slots_[find(key)];
  if (slot.count <= kFew) return;
  for (std::size_t word = 0; word < words_; word += kLine) {
    __builtin_prefetch(&held_[slot.units[0] * words_ + word]);
  }
}

HolderTable::Holders HolderTable::holders(std::uint64_t key) const {
  const Slot& slot = slots_[find(key)];
  Holders out;
  if (slot.count > kFew) {
    out.many = std::span(held_).subspan(slot.units[0] * words_, words_);
    return out;
  }
  out.few_count = slot.count;
  for (std::uint32_t i = 0; i < slot.count; ++i) {
    out.few[i] = slot.units[i] & ~kUsed;
  }
  return out;
}

// Slots behind it that stood there only because it was taken move up (Knuth 6.4, algorithm R).
void HolderTable::free_slot(std::size_t index) {
  const std::size_t mask = slots_.size() - 1;
  std::size_t gap = index;
  for (std::size_t next = (gap + 1) & mask; slots_[next].key != 0; next = (next + 1) & mask) {
    const std::size_t wanted = home(slots_[next].key);
    if (((next - wanted) & mask) < ((next - gap) & mask)) continue;
    slots_[gap] = slots_[next];
    gap = next;
  }
  slots_[gap] = {};
  --keys_;
}

void HolderTable::grow() {
  std::vector<Slot> old(2 * slots_.size());
  std::swap(old, slots_);
  for (const Slot& slot : old) {
    if (slot.key != 0) slots_[find(slot.key)] = slot;
  }
}

}  // namespace pleiad::router
