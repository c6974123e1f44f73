#include "text/detail/normalizer.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/text/small_tokenizer.h"

namespace pleiad::text {
namespace {

using ::testing::ElementsAre;

TEST(Normalizer, ComposesBeforeMergingAndFindsNormalizedTokensAfterwards) {
  const Tokenizer tokenizer = small(
      R"(,"normalizer":{"type":"NFC"},"added_tokens":[{"id":300,"content":"e\u0301!","normalized":true,"special":true}])"
  );

  EXPECT_THAT(*tokenizer.encode("e\xCC\x81"), ElementsAre(0xC3, 0xA9));
  EXPECT_THAT(*tokenizer.encode("e\xCC\x81!"), ElementsAre(300));
  EXPECT_THAT(*tokenizer.encode("\xC3\xA9!"), ElementsAre(300));
  EXPECT_THAT(
      *tokenizer.encode("e\xCC\x81!", {.untrusted = {{1, 2}}}), ElementsAre(0xC3, 0xA9, '!')
  );
}

TEST(Normalizer, ComposesAndOrdersMarks) {
  EXPECT_EQ(detail::to_nfc("plain"), "plain");
  EXPECT_EQ(detail::to_nfc("e\xCC\x81"), "\xC3\xA9");
  EXPECT_EQ(detail::to_nfc("a\xCC\x81\xCC\xA3"), "\xE1\xBA\xA1\xCC\x81") << "dot below first";
  EXPECT_EQ(detail::to_nfc("\xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8"), "\xEA\xB0\x81") << "Hangul";
  EXPECT_EQ(detail::to_nfc("\xE2\x84\xAB"), "\xC3\x85") << "the Angstrom sign is a letter";
}

TEST(Normalizer, GrowsUntrustedRangesToWhereNothingComposes) {
  const auto normalizer = detail::Normalizer::build(*parse_json(R"({"type":"NFC"})"));

  const auto marked = normalizer->apply("xe\xCC\x81y", {{2, 4}});

  EXPECT_EQ(marked.text, "x\xC3\xA9y");
  EXPECT_THAT(marked.untrusted, ElementsAre(TextRange{1, 3}));
}

TEST(Normalizer, TakesAMegabyteOfShuffledMarks) {
  std::string text = "a";
  for (int i = 0; i < 200'000; ++i) {
    text += i % 2 == 0 ? "\xCC\xA3" : "\xCC\x81";
  }

  EXPECT_EQ(detail::to_nfc(text).size(), text.size() - 1 - 2 + 3) << "the first dot composes";
}

}  // namespace
}  // namespace pleiad::text
