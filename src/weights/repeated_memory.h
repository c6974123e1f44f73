#pragma once

#include <cstddef>
#include <span>

#include "base/result.h"

namespace pleiad::weights {

// A block of memory that stands many times one behind the other in the address space, so that a
// large range has numbers at the price of a small one. Move-only.
class RepeatedMemory {
 public:
  static constexpr std::size_t kBlockBytes = std::size_t{4} << 20U;

  // At least `bytes` of zeros. Fails with Internal when the system refuses.
  static Result<RepeatedMemory> create(std::size_t bytes);

  RepeatedMemory(RepeatedMemory&& other) noexcept;
  RepeatedMemory& operator=(RepeatedMemory&& other) noexcept;
  RepeatedMemory(const RepeatedMemory&) = delete;
  RepeatedMemory& operator=(const RepeatedMemory&) = delete;
  ~RepeatedMemory();

  // [kBlockBytes]; what is written here shows in every repetition.
  [[nodiscard]] std::span<std::byte> block() const { return bytes_.first(kBlockBytes); }
  [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }

 private:
  explicit RepeatedMemory(std::span<std::byte> bytes) : bytes_(bytes) {}

  std::span<std::byte> bytes_;
};

}  // namespace pleiad::weights
