#include "comm/detail/secret.h"

#include <memory>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>

#include "base/check.h"

namespace pleiad::comm {
namespace {

const unsigned char* chars(std::span<const std::byte> bytes) {
  return reinterpret_cast<const unsigned char*>(bytes.data());
}

}  // namespace

Nonce fresh_nonce() {
  Nonce nonce{};
  const int drawn =
      RAND_bytes(reinterpret_cast<unsigned char*>(nonce.data()), static_cast<int>(nonce.size()));
  PLEIAD_CHECK(drawn == 1, "the system has random bytes");
  return nonce;
}

Digest keyed_digest(
    std::span<const std::byte> key,
    std::initializer_list<std::span<const std::byte>> parts
) {
  const std::unique_ptr<EVP_MAC, void (*)(EVP_MAC*)> mac(
      EVP_MAC_fetch(nullptr, "HMAC", nullptr), EVP_MAC_free
  );
  PLEIAD_CHECK(mac != nullptr, "libcrypto has HMAC");
  const std::unique_ptr<EVP_MAC_CTX, void (*)(EVP_MAC_CTX*)> context(
      EVP_MAC_CTX_new(mac.get()), EVP_MAC_CTX_free
  );
  std::array<char, 7> name{"SHA256"};
  const std::array<OSSL_PARAM, 2> params{
      OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, name.data(), 0),
      OSSL_PARAM_construct_end()};
  // A key of no bytes still needs an address.
  static constexpr unsigned char kNoKey = 0;
  const unsigned char* key_bytes = key.empty() ? &kNoKey : chars(key);
  bool right = EVP_MAC_init(context.get(), key_bytes, key.size(), params.data()) == 1;
  for (const auto part : parts) {
    right = right && EVP_MAC_update(context.get(), chars(part), part.size()) == 1;
  }
  Digest digest{};
  std::size_t length = 0;
  auto* out = reinterpret_cast<unsigned char*>(digest.data());
  right = right && EVP_MAC_final(context.get(), out, &length, digest.size()) == 1;
  PLEIAD_CHECK(right && length == digest.size(), "HMAC-SHA256 works");
  return digest;
}

bool same_bytes(std::span<const std::byte> a, std::span<const std::byte> b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

Digest Transcript::digest(std::string_view secret, std::string_view role) const {
  return keyed_digest(
      std::as_bytes(std::span(secret)), {std::as_bytes(std::span(role)), joiner, host}
  );
}

}  // namespace pleiad::comm
