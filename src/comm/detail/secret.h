#pragma once

#include <array>
#include <cstddef>
#include <initializer_list>
#include <span>
#include <string_view>

namespace pleiad::comm {

using Nonce = std::array<std::byte, 32>;
using Digest = std::array<std::byte, 32>;

// Unpredictable bytes.
Nonce fresh_nonce();
// HMAC-SHA256 of the parts, one after the other.
Digest keyed_digest(
    std::span<const std::byte> key,
    std::initializer_list<std::span<const std::byte>> parts
);
// Takes the same time wherever they differ.
bool same_bytes(std::span<const std::byte> a, std::span<const std::byte> b);

// What the two ends of a connection have said to each other before either believed the other.
struct Transcript {
  Nonce joiner;
  Nonce host;

  // HMAC over both nonces and `role`, which keeps one end's words from passing for the other's.
  [[nodiscard]] Digest digest(std::string_view secret, std::string_view role) const;
};

inline constexpr std::string_view kJoinerProof = "pleiad/1 the joiner knows the secret";
inline constexpr std::string_view kHostProof = "pleiad/1 the host knows the secret";
inline constexpr std::string_view kJoinerKey = "pleiad/1 frames of the joiner";
inline constexpr std::string_view kHostKey = "pleiad/1 frames of the host";

}  // namespace pleiad::comm
