#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace pleiad {

// 64 bits of the bytes (XXH3): the same on every machine and in every version. Not for secrets.
std::uint64_t hash64(std::span<const std::byte> bytes, std::uint64_t seed = 0);
inline std::uint64_t hash64(std::string_view text, std::uint64_t seed = 0) {
  return hash64(std::as_bytes(std::span(text)), seed);
}

}  // namespace pleiad
