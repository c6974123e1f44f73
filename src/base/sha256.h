#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string_view>

namespace pleiad {

using Sha256 = std::array<std::byte, 32>;

// Of the bytes of `text` (FIPS 180-4). Any thread.
Sha256 sha256(std::string_view text);
// Of 64 hexadecimal digits in either case; none for anything else.
std::optional<Sha256> parse_sha256(std::string_view hex);
// Whether two are the same; the time taken does not tell where they differ.
bool same_digest(const Sha256& a, const Sha256& b);

}  // namespace pleiad
