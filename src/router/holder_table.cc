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

bool has(const std::vector<std::uint64_t>& bits, UnitIndex unit) {
  return unit / 64 < bits.size() && (bits[unit / 64] & bit(unit)) != 0;
}

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
    Set& set = sets_[slot.units[0]];
    if (!has(set.held, unit)) return false;
    set.used[unit / 64] |= bit(unit);
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
  if (slot.count == kFew) spread(slot);
  Set& set = sets_[slot.units[0]];
  if (unit / 64 >= set.held.size()) {
    set.held.resize(unit / 64 + 1);
    set.used.resize(unit / 64 + 1);
  }
  set.held[unit / 64] |= bit(unit);
  ++slot.count;
}

bool HolderTable::take_used(std::uint64_t key, UnitIndex unit) {
  Slot& slot = at(key);
  if (slot.count > kFew) {
    Set& set = sets_[slot.units[0]];
    const bool used = has(set.used, unit);
    set.used[unit / 64] &= ~bit(unit);
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
    Set& set = sets_[slot.units[0]];
    set.held[unit / 64] &= ~bit(unit);
    set.used[unit / 64] &= ~bit(unit);
    --slot.count;
    if (slot.count == kFew) gather(slot);
    return;
  }
  *pair_of(slot, unit) = slot.units[slot.count - 1];
  if (--slot.count == 0) free_slot(index);
}

// From the slot into a set of bits.
void HolderTable::spread(Slot& slot) {
  std::uint32_t number = 0;
  if (free_sets_.empty()) {
    number = static_cast<std::uint32_t>(sets_.size());
    sets_.emplace_back();
  } else {
    number = free_sets_.back();
    free_sets_.pop_back();
  }
  Set& set = sets_[number];
  const UnitIndex last = *std::ranges::max_element(slot.units, {}, [](std::uint32_t pair) {
    return pair & ~kUsed;
  }) & ~kUsed;
  set.held.assign(last / 64 + 1, 0);
  set.used.assign(last / 64 + 1, 0);
  for (const std::uint32_t pair : slot.units) {
    const UnitIndex unit = pair & ~kUsed;
    set.held[unit / 64] |= bit(unit);
    if ((pair & kUsed) != 0) set.used[unit / 64] |= bit(unit);
  }
  slot.units[0] = number;
}

// And back.
void HolderTable::gather(Slot& slot) {
  const std::uint32_t number = slot.units[0];
  const Set& set = sets_[number];
  std::size_t next = 0;
  for (std::size_t word = 0; word < set.held.size(); ++word) {
    for (std::uint64_t bits = set.held[word]; bits != 0; bits &= bits - 1) {
      const auto unit =
          static_cast<UnitIndex>(word * 64 + static_cast<std::size_t>(std::countr_zero(bits)));
      slot.units[next++] = has(set.used, unit) ? unit | kUsed : unit;
    }
  }
  free_sets_.push_back(number);
}

HolderTable::Holders HolderTable::holders(std::uint64_t key) const {
  const Slot& slot = slots_[find(key)];
  Holders out;
  if (slot.count > kFew) {
    out.many = sets_[slot.units[0]].held;
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
