#include "device/arena_plan.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"

namespace pleiad::device {

RegionId ArenaPlan::reserve(std::string_view name, std::size_t bytes, int first, int last) {
  PLEIAD_CHECK(first <= last, name);
  const std::size_t padded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  regions_.push_back({.name = std::string(name), .bytes = padded, .first = first, .last = last});
  return RegionId(static_cast<std::uint32_t>(regions_.size() - 1));
}

void ArenaPlan::place() {
  std::vector<std::size_t> order(regions_.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, [this](std::size_t a, std::size_t b) {
    return regions_[a].bytes > regions_[b].bytes;
  });

  std::vector<const Region*> placed;  // ascending offsets
  for (const std::size_t index : order) {
    Region& region = regions_[index];
    std::size_t offset = 0;
    for (const Region* other : placed) {
      const bool meets = region.first <= other->last && other->first <= region.last;
      const bool fits_below = offset + region.bytes <= other->offset;
      if (meets && !fits_below) offset = std::max(offset, other->offset + other->bytes);
    }
    region.offset = offset;
    bytes_ = std::max(bytes_, offset + region.bytes);
    const auto at =
        std::ranges::upper_bound(placed, offset, {}, [](const Region* r) { return r->offset; });
    placed.insert(at, &region);
  }
}

std::size_t ArenaPlan::naive_bytes() const {
  std::size_t total = 0;
  for (const Region& region : regions_) {
    total += region.bytes;
  }
  return total;
}

std::size_t ArenaPlan::offset(RegionId region) const {
  return regions_[region.index()].offset;
}

std::size_t ArenaPlan::size(RegionId region) const {
  return regions_[region.index()].bytes;
}

}  // namespace pleiad::device
