#include "text/detail/byte_alphabet.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pleiad::text::detail {
namespace {

TEST(ByteAlphabet, EveryByteHasOneLetterAndComesBack) {
  std::string all;
  for (int byte = 0; byte < 256; ++byte) {
    all += static_cast<char>(byte);
  }

  EXPECT_EQ(bytes_of_alphabet(alphabet_of_bytes(all)), all);
}

TEST(ByteAlphabet, SpellsBlanksAsGpt2Does) {
  EXPECT_EQ(
      alphabet_of_bytes(" a\n"),
      "\xC4\xA0"
      "a\xC4\x8A"
  );
  EXPECT_EQ(bytes_of_alphabet("\xC4\xA0the"), " the");
}

TEST(ByteAlphabet, KnowsWhatIsNotInIt) {
  EXPECT_EQ(bytes_of_alphabet("a b"), std::nullopt) << "a bare space is no letter";
  EXPECT_EQ(bytes_of_alphabet("\xEF\xBD\x9C"), std::nullopt);
  EXPECT_EQ(bytes_of_alphabet("\xFF"), std::nullopt);
}

}  // namespace
}  // namespace pleiad::text::detail
