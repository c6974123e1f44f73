#include "comm/detail/secret.h"

#include <string>

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace pleiad::comm {
namespace {

std::string hex(std::span<const std::byte> bytes) {
  std::string text;
  for (const std::byte byte : bytes) {
    text += fmt::format("{:02x}", static_cast<unsigned>(byte));
  }
  return text;
}

std::span<const std::byte> bytes(std::string_view text) {
  return std::as_bytes(std::span(text));
}

TEST(Secret, DigestsAreHmacSha256) {
  // RFC 4231, test case 2; the parts are one text.
  EXPECT_EQ(
      hex(keyed_digest(bytes("Jefe"), {bytes("what do ya want "), bytes("for nothing?")})),
      "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
  );
}

TEST(Secret, AnEmptyKeyIsAKey) {
  EXPECT_EQ(
      hex(keyed_digest({}, {})), "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad"
  );
}

TEST(Secret, ProofsDependOnSecretRoleAndBothNonces) {
  const Transcript transcript{.joiner = fresh_nonce(), .host = fresh_nonce()};
  const Transcript other_joiner{.joiner = fresh_nonce(), .host = transcript.host};
  const Transcript other_host{.joiner = transcript.joiner, .host = fresh_nonce()};
  const Transcript swapped{.joiner = transcript.host, .host = transcript.joiner};
  const Digest proof = transcript.digest("secret", kJoinerProof);

  EXPECT_EQ(proof, transcript.digest("secret", kJoinerProof));
  EXPECT_NE(proof, transcript.digest("Secret", kJoinerProof));
  EXPECT_NE(proof, transcript.digest("secret", kHostProof));
  EXPECT_NE(proof, other_joiner.digest("secret", kJoinerProof));
  EXPECT_NE(proof, other_host.digest("secret", kJoinerProof));
  EXPECT_NE(proof, swapped.digest("secret", kJoinerProof));
}

TEST(Secret, ComparesBytes) {
  EXPECT_TRUE(same_bytes(bytes("abc"), bytes("abc")));
  EXPECT_FALSE(same_bytes(bytes("abc"), bytes("abd")));
  EXPECT_FALSE(same_bytes(bytes("abc"), bytes("ab")));
  EXPECT_TRUE(same_bytes({}, {}));
}

}  // namespace
}  // namespace pleiad::comm
