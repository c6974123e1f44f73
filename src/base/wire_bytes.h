#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace pleiad {

static_assert(std::endian::native == std::endian::little, "the wire is little-endian");

// Appends numbers and byte strings to a message.
class ByteWriter {
 public:
  template <typename Number>
  void number(Number value) {
    const auto bytes = std::as_bytes(std::span(&value, 1));
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  }
  void raw(std::span<const std::byte> bytes) {
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  }
  // With its length in front.
  void bytes(std::span<const std::byte> bytes) {
    number(static_cast<std::uint32_t>(bytes.size()));
    raw(bytes);
  }
  void text(std::string_view text) { bytes(std::as_bytes(std::span(text))); }

  std::vector<std::byte> take() { return std::move(bytes_); }

 private:
  std::vector<std::byte> bytes_;
};

// Reads back what a ByteWriter wrote. Bytes come from outside: everything is bounded, and nothing
// may be left over.
class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes) : rest_(bytes) {}

  template <typename Number>
  Result<Number> number() {
    PLEIAD_TRY(raw, take(sizeof(Number)));
    Number value;
    std::memcpy(&value, raw.data(), sizeof value);
    return value;
  }
  // A count of things or bytes, at most `limit`.
  Result<std::size_t> count(std::size_t limit) {
    PLEIAD_TRY(value, number<std::uint32_t>());
    if (value > limit) return corrupt("a count of {}, at most {}", value, limit);
    return std::size_t{value};
  }
  Result<std::span<const std::byte>> bytes(std::size_t limit) {
    PLEIAD_TRY(length, count(limit));
    return take(length);
  }
  Result<std::span<const std::byte>> take(std::size_t length) {
    if (length > rest_.size()) return corrupt("a message that ends too early");
    const auto taken = rest_.first(length);
    rest_ = rest_.subspan(length);
    return taken;
  }
  [[nodiscard]] Result<void> end() const {
    if (rest_.empty()) return {};
    return corrupt("{} bytes after the end of a message", rest_.size());
  }

 private:
  std::span<const std::byte> rest_;
};

}  // namespace pleiad
