#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/id.h"

namespace pleiad::device {

using RegionId = Id<struct RegionTag, std::uint32_t>;

// Lays scratch regions out in one buffer so that regions whose lifetimes do not meet share bytes.
// Times are the caller's own numbers for the ops of a step, ascending. Used once at start; then
// offsets are fixed.
class ArenaPlan {
 public:
  static constexpr std::size_t kAlignment = 64;

  // A region that holds its contents from op `first` to op `last`, both included.
  RegionId reserve(std::string_view name, std::size_t bytes, int first, int last);

  // Gives every region its place: largest first, each at the lowest offset free over its lifetime.
  void place();

  // Bytes of the buffer that holds all regions. REQUIRES: place() was called.
  [[nodiscard]] std::size_t bytes() const { return bytes_; }
  // Bytes without sharing: what the same regions would take side by side.
  [[nodiscard]] std::size_t naive_bytes() const;
  [[nodiscard]] std::size_t offset(RegionId region) const;
  [[nodiscard]] std::size_t size(RegionId region) const;

 private:
  struct Region {
    std::string name;
    std::size_t bytes = 0;
    int first = 0;
    int last = 0;
    std::size_t offset = 0;
  };

  std::vector<Region> regions_;
  std::size_t bytes_ = 0;
};

}  // namespace pleiad::device
