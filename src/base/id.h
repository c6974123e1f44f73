#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace pleiad {

// An integer that cannot be mistaken for another kind of integer: using PageId = Id<struct
// PageTag>. Ids are compared and hashed, never added.
template <typename Tag, typename Rep = std::uint32_t>
class Id {
 public:
  constexpr Id() = default;
  constexpr explicit Id(Rep value) : value_(value) {}

  [[nodiscard]] constexpr Rep value() const { return value_; }
  // For indexing an array with one entry per id.
  [[nodiscard]] constexpr std::size_t index() const { return static_cast<std::size_t>(value_); }

  friend constexpr auto operator<=>(Id, Id) = default;

 private:
  Rep value_ = 0;
};

}  // namespace pleiad

template <typename Tag, typename Rep>
struct std::hash<pleiad::Id<Tag, Rep>> {
  std::size_t operator()(pleiad::Id<Tag, Rep> id) const noexcept {
    return std::hash<Rep>{}(id.value());
  }
};
