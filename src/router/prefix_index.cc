#include "router/prefix_index.h"

#include <algorithm>

#include "base/check.h"
#include "base/hash.h"

namespace pleiad::router {

std::vector<std::uint64_t> page_keys(std::string_view salt, std::span<const TokenId> prompt) {
  std::vector<std::uint64_t> keys;
  keys.reserve(prompt.size() / kPageTokens);
  std::uint64_t key = hash64(salt);
  for (std::size_t begin = 0; begin + kPageTokens <= prompt.size(); begin += kPageTokens) {
    key = hash64(std::as_bytes(prompt.subspan(begin, kPageTokens)), key);
    keys.push_back(key);
  }
  return keys;
}

void PrefixIndex::reset_unit(UnitIndex unit, std::size_t pages_max) {
  if (unit >= units_.size()) units_.resize(unit + 1);
  while (units_[unit].oldest != kNone) {
    drop(units_[unit].oldest);
  }
  units_[unit].pages_max = pages_max;
}

// From the last page to the first, so that pages go out before those they follow: a unit that has a
// page has all before it.
void PrefixIndex::add(UnitIndex unit, std::span<const std::uint64_t> keys) {
  const auto kept = keys.first(std::min(keys.size(), units_[unit].pages_max));
  for (std::size_t i = kept.size(); i-- > 0;) {
    const std::uint32_t entry = find(unit, kept[i]);
    if (entry != kNone) {
      touch(entry);
    } else {
      insert(unit, kept[i]);
    }
  }
  while (units_[unit].pages > units_[unit].pages_max) {
    drop(units_[unit].oldest);
  }
}

void PrefixIndex::match(std::span<const std::uint64_t> keys, std::span<std::uint32_t> overlap)
    const {
  PLEIAD_CHECK(overlap.size() >= units_.size());
  std::ranges::fill(overlap, 0U);
  const std::vector<Holder>* page = nullptr;
  std::uint32_t depth = 0;
  const auto note = [&] {
    if (page == nullptr) return;
    for (const Holder& holder : *page) {
      overlap[holder.unit] = depth;
    }
  };
  for (const std::uint64_t key : keys) {
    const auto found = holders_.find(key);
    if (found == holders_.end()) break;
    // Some have this page no more: they keep the depth before it.
    if (page != nullptr && found->second.size() < page->size()) note();
    page = &found->second;
    ++depth;
  }
  note();
}

std::uint32_t PrefixIndex::find(UnitIndex unit, std::uint64_t key) const {
  const auto found = holders_.find(key);
  if (found == holders_.end()) return kNone;
  const auto holder = std::ranges::find(found->second, unit, &Holder::unit);
  return holder == found->second.end() ? kNone : holder->entry;
}

void PrefixIndex::insert(UnitIndex unit, std::uint64_t key) {
  std::uint32_t entry = 0;
  if (free_.empty()) {
    entry = static_cast<std::uint32_t>(entries_.size());
    entries_.emplace_back();
  } else {
    entry = free_.back();
    free_.pop_back();
  }
  entries_[entry] = {.key = key, .unit = unit};
  holders_[key].push_back({unit, entry});
  link_newest(entry);
  ++units_[unit].pages;
}

void PrefixIndex::touch(std::uint32_t entry) {
  unlink(entry);
  link_newest(entry);
}

void PrefixIndex::unlink(std::uint32_t entry) {
  const Entry& gone = entries_[entry];
  Unit& unit = units_[gone.unit];
  (gone.older == kNone ? unit.oldest : entries_[gone.older].newer) = gone.newer;
  (gone.newer == kNone ? unit.newest : entries_[gone.newer].older) = gone.older;
}

void PrefixIndex::link_newest(std::uint32_t entry) {
  Unit& unit = units_[entries_[entry].unit];
  entries_[entry].older = unit.newest;
  entries_[entry].newer = kNone;
  (unit.newest == kNone ? unit.oldest : entries_[unit.newest].newer) = entry;
  unit.newest = entry;
}

void PrefixIndex::drop(std::uint32_t entry) {
  unlink(entry);
  const Entry& gone = entries_[entry];
  const auto found = holders_.find(gone.key);
  auto& holders = found->second;
  *std::ranges::find(holders, gone.unit, &Holder::unit) = holders.back();
  holders.pop_back();
  if (holders.empty()) holders_.erase(found);
  --units_[gone.unit].pages;
  free_.push_back(entry);
}

}  // namespace pleiad::router
