#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "device/dtype.h"

namespace pleiad::device {

// The extents of a tensor, outermost first; at most kRankMax of them. A scalar has rank 0.
struct Shape {
  static constexpr std::size_t kRankMax = 4;

  std::array<std::int64_t, kRankMax> extents{};
  std::size_t rank = 0;

  // Product of the extents (1 for a scalar).
  [[nodiscard]] std::int64_t elements() const {
    std::int64_t product = 1;
    for (std::size_t i = 0; i < rank; ++i) {
      product *= extents[i];
    }
    return product;
  }
  [[nodiscard]] std::int64_t operator[](std::size_t axis) const { return extents[axis]; }

  friend bool operator==(const Shape&, const Shape&) = default;
};

// A borrowed, dense, row-major tensor. Whoever made it says how long the bytes live.
struct TensorView {
  std::span<const std::byte> bytes;
  DType dtype = DType::F32;
  Shape shape;
};

}  // namespace pleiad::device
