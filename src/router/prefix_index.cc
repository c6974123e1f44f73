#include "router/prefix_index.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "base/check.h"
#include "base/hash.h"

namespace pleiad::router {
namespace {

constexpr std::size_t kSteps = 8;   // keys in each doubling of the length
constexpr std::size_t kAhead = 16;  // entries that the hand has read before it comes by

// overlap[unit] = pages for each unit in `bits` and not in `but`.
void note(
    std::span<const std::uint64_t> bits,
    std::span<const std::uint64_t> but,
    std::size_t pages,
    std::span<std::uint32_t> overlap
) {
  for (std::size_t word = 0; word < bits.size(); ++word) {
    std::uint64_t left = bits[word] & ~(word < but.size() ? but[word] : 0);
    for (; left != 0; left &= left - 1) {
      const auto unit = word * 64 + static_cast<std::size_t>(std::countr_zero(left));
      overlap[unit] = static_cast<std::uint32_t>(pages);
    }
  }
}

}  // namespace

std::size_t pages_at(std::size_t index) {
  if (index < kSteps) return index + 1;
  const std::size_t doubling = index / kSteps - 1;
  return (kSteps + index % kSteps + 1) << doubling;
}

std::vector<std::uint64_t> prefix_keys(std::string_view salt, std::span<const TokenId> prompt) {
  std::vector<std::uint64_t> keys;
  const std::size_t pages = prompt.size() / kPageTokens;
  keys.reserve(std::min<std::size_t>(pages, kSteps * std::bit_width(pages)));
  std::uint64_t key = hash64(salt);
  std::size_t begin = 0;
  for (std::size_t index = 0; pages_at(index) <= pages; ++index) {
    const std::size_t end = pages_at(index) * kPageTokens;
    key = hash64(std::as_bytes(prompt.subspan(begin, end - begin)), key);
    keys.push_back(std::max<std::uint64_t>(key, 1));  // 0 is no key
    begin = end;
  }
  return keys;
}

void PrefixIndex::reset_unit(UnitIndex unit, std::size_t pages_max) {
  if (unit >= units_.size()) units_.resize(unit + 1);
  Unit& reset = units_[unit];
  while (reset.count > 0) {
    table_.erase(pop(reset).key, unit);
  }
  reset.pages_max = pages_max;
}

void PrefixIndex::push(Unit& unit, const Entry& entry) {
  if (unit.count == unit.ring.size()) {
    const auto first = unit.ring.begin() + static_cast<std::ptrdiff_t>(unit.first);
    std::rotate(unit.ring.begin(), first, unit.ring.end());
    unit.first = 0;
    unit.ring.resize(std::max<std::size_t>(16, 2 * unit.ring.size()));
  }
  unit.ring[(unit.first + unit.count++) & (unit.ring.size() - 1)] = entry;
  unit.pages += entry.pages;
}

PrefixIndex::Entry PrefixIndex::pop(Unit& unit) {
  const Entry entry = unit.ring[unit.first];
  unit.first = (unit.first + 1) & (unit.ring.size() - 1);
  --unit.count;
  unit.pages -= entry.pages;
  return entry;
}

// From the last key to the first, so that the hand comes by what follows a page before the page.
void PrefixIndex::add(UnitIndex index, std::span<const std::uint64_t> keys) {
  Unit& unit = units_[index];
  std::size_t kept = keys.size();
  while (kept > 0 && pages_at(kept - 1) > unit.pages_max) {
    --kept;
  }
  for (std::size_t i = kept; i-- > 0;) {
    if (table_.touch(keys[i], index)) continue;
    table_.insert(keys[i], index);
    push(unit, {.key = keys[i], .pages = pages_at(i) - (i == 0 ? 0 : pages_at(i - 1))});
  }
  make_room(index);
}

void PrefixIndex::make_room(UnitIndex index) {
  Unit& unit = units_[index];
  if (unit.pages <= unit.pages_max) return;
  const std::size_t mask = unit.ring.size() - 1;
  for (std::size_t i = 0; i < kAhead; ++i) {
    table_.prefetch(unit.ring[(unit.first + i) & mask].key);
  }
  while (unit.pages > unit.pages_max) {
    table_.prefetch(unit.ring[(unit.first + kAhead) & mask].key);
    const Entry entry = pop(unit);
    if (table_.take_used(entry.key, index)) {
      push(unit, entry);
    } else {
      table_.erase(entry.key, index);
    }
  }
}

// Deeper keys overwrite; where many hold a key, only those that do not hold the next are written.
void PrefixIndex::match(std::span<const std::uint64_t> keys, std::span<std::uint32_t> overlap)
    const {
  PLEIAD_CHECK(overlap.size() >= units_.size());
  std::ranges::fill(overlap, 0U);
  for (const std::uint64_t key : keys) {
    table_.prefetch(key);
  }
  for (const std::uint64_t key : keys) {
    table_.prefetch_many(key);
  }
  std::span<const std::uint64_t> many;  // of the key before
  std::size_t pages = 0;                // likewise
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const HolderTable::Holders holders = table_.holders(keys[i]);
    note(many, holders.many, pages, overlap);
    if (holders.none()) return;
    pages = pages_at(i);
    many = holders.many;
    for (std::uint32_t k = 0; k < holders.few_count; ++k) {
      overlap[holders.few[k]] = static_cast<std::uint32_t>(pages);
    }
  }
  note(many, {}, pages, overlap);
}

}  // namespace pleiad::router
