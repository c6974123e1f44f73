#include "base/sha256.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "base/check.h"

namespace pleiad {
namespace {

std::optional<unsigned> digit(char c) {
  if (c >= '0' && c <= '9') return static_cast<unsigned>(c - '0');
  if (c >= 'a' && c <= 'f') return static_cast<unsigned>(c - 'a' + 10);
  if (c >= 'A' && c <= 'F') return static_cast<unsigned>(c - 'A' + 10);
  return std::nullopt;
}

}  // namespace

Sha256 sha256(std::string_view text) {
  Sha256 out{};
  unsigned length = 0;
  const int right = EVP_Digest(
      text.data(),
      text.size(),
      reinterpret_cast<unsigned char*>(out.data()),
      &length,
      EVP_sha256(),
      nullptr
  );
  PLEIAD_CHECK(right == 1 && length == out.size(), "SHA-256 works");
  return out;
}

std::optional<Sha256> parse_sha256(std::string_view hex) {
  Sha256 out{};
  if (hex.size() != 2 * out.size()) return std::nullopt;
  for (std::size_t i = 0; i < out.size(); ++i) {
    const auto high = digit(hex[2 * i]);
    const auto low = digit(hex[2 * i + 1]);
    if (!high || !low) return std::nullopt;
    out[i] = static_cast<std::byte>(*high << 4U | *low);
  }
  return out;
}

bool same_digest(const Sha256& a, const Sha256& b) {
  return CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace pleiad
