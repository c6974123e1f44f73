#include "text/tokenizer.h"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/json.h"
#include "base/random.h"
#include "tests/text/small_tokenizer.h"

namespace pleiad::text {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::filesystem::path kSource = PLEIAD_SOURCE_DIR;

Tokenizer fable() {
  auto tokenizer = Tokenizer::load(
      kSource / "models/fable/tokenizer.json", kSource / "models/fable/tokenizer_config.json"
  );
  return std::move(tokenizer).value();
}

Json reference() {
  std::ifstream in(kSource / "tests/golden/fable/reference.json");
  const std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  return *parse_json(text);
}

std::vector<TokenId> ids_of(const Json& array) {
  std::vector<TokenId> ids;
  for (const Json& id : *array.as_array()) {
    ids.push_back(static_cast<TokenId>(*id.as_int()));
  }
  return ids;
}

TEST(Tokenizer, GivesTheReferenceIdsForEveryCase) {
  const Tokenizer tokenizer = fable();
  const Json golden = reference();

  for (const Json& item : *golden.find("tokenize")->as_array()) {
    const std::string& text = *item.find("text")->as_string();
    const auto ids = tokenizer.encode(text);
    EXPECT_EQ(*ids, ids_of(*item.find("ids"))) << text;
    EXPECT_EQ(*tokenizer.decode(*ids), *item.find("decoded")->as_string());
  }
}

TEST(Tokenizer, KnowsTheSizeAndTheNamedTokensOfTheBundledModel) {
  const Tokenizer tokenizer = fable();

  EXPECT_EQ(tokenizer.vocab_size(), 4096U);
  EXPECT_EQ(tokenizer.bos(), TokenId{0});
  EXPECT_EQ(tokenizer.eos(), TokenId{1});
  EXPECT_EQ(tokenizer.id_of("<|user|>"), TokenId{3});
  EXPECT_TRUE(tokenizer.is_special(3));
  EXPECT_FALSE(tokenizer.is_special(100));
  EXPECT_FALSE(tokenizer.is_special(4'000'000'000U));
  EXPECT_EQ(tokenizer.token_bytes(3), "<|user|>");
  EXPECT_EQ(tokenizer.token_bytes(4096), "");
  EXPECT_EQ(tokenizer.token_bytes(*tokenizer.id_of(" the")), " the");
  EXPECT_EQ(tokenizer.id_of("no such token at all"), std::nullopt);
}

TEST(Tokenizer, KeepsControlTokensInUntrustedTextAsText) {
  const Tokenizer tokenizer = fable();
  const std::string text = "<|user|>say <|end|><|end|>";
  const std::size_t typed = text.find("<|end|>");

  const auto ids =
      *tokenizer.encode(text, {.untrusted = {{typed + 3, typed + 4}, {typed + 6, typed + 7}}});

  EXPECT_EQ(ids.front(), 3U);
  EXPECT_EQ(ids.back(), 5U);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 5U), 1);
  EXPECT_EQ(*tokenizer.decode(ids), text);
}

TEST(Tokenizer, SkipsSpecialTokensWhenDecodingIfAsked) {
  const Tokenizer tokenizer = fable();
  const auto ids = *tokenizer.encode("<|user|>hello<|end|>");

  EXPECT_EQ(*tokenizer.decode(ids, {.skip_special = true}), "hello");
}

TEST(Tokenizer, RefusesIdsBeyondTheVocabularyWhenDecoding) {
  const Tokenizer tokenizer = fable();

  for (const TokenId id : {4096U, 4294967295U}) {
    const auto text = tokenizer.decode(std::vector<TokenId>{id});
    ASSERT_FALSE(text.ok());
    EXPECT_EQ(text.error().kind, ErrorKind::InvalidInput);
    EXPECT_THAT(text.error().message, HasSubstr(std::to_string(id)));
  }
}

TEST(Tokenizer, RefusesIllFormedTextAndRangesBeyondItsEnd) {
  const Tokenizer tokenizer = fable();

  EXPECT_EQ(tokenizer.encode("a\xFF").error().kind, ErrorKind::InvalidInput);
  EXPECT_EQ(tokenizer.encode("\xED\xA0\x80").error().kind, ErrorKind::InvalidInput);
  EXPECT_FALSE(tokenizer.encode("ab", {.untrusted = {{1, 3}}}).ok());
  EXPECT_TRUE(tokenizer.encode("ab", {.untrusted = {{9, 9}}}).ok())
      << "an empty range says nothing";
}

TEST(Tokenizer, DecodesBrokenBytesAsReplacementCharacters) {
  const Tokenizer tokenizer = small("");

  EXPECT_EQ(
      *tokenizer.decode(std::vector<TokenId>{'a', 0xE2, 0x82, 'b'}),
      "a\xEF\xBF\xBD"
      "b"
  );
}

TEST(Tokenizer, MergesByRankInBothSpellingsOfMerges) {
  const Tokenizer tokenizer = small("");

  EXPECT_THAT(*tokenizer.encode("abc"), ElementsAre(257));
  EXPECT_THAT(*tokenizer.encode("abab"), ElementsAre(256, 256));
  EXPECT_THAT(*tokenizer.encode("ab c"), ElementsAre(256, ' ', 'c'));
  EXPECT_THAT(*tokenizer.encode(""), ElementsAre());
}

TEST(Tokenizer, LongWordsGiveTheSameTokensAsTheirShortParts) {
  const Tokenizer tokenizer = small("");
  constexpr std::uint64_t kSeed = 7;
  Random random(kSeed);
  for (int round = 0; round < 50; ++round) {
    // An x never merges, so words cut there are independent.
    std::string text;
    std::vector<TokenId> expected;
    for (int part = 0; part < 40; ++part) {
      std::string word;
      for (std::uint64_t i = random.below(8); i > 0; --i) {
        word += "abc "[random.below(4)];
      }
      word += 'x';
      const auto ids = *tokenizer.encode(word);
      expected.insert(expected.end(), ids.begin(), ids.end());
      text += word;
    }
    EXPECT_EQ(*tokenizer.encode(text), expected) << "seed " << kSeed << ": " << text;
  }
}

TEST(Tokenizer, TakesAWordOfAMegabyteInReasonableTime) {
  const Tokenizer tokenizer = fable();
  const std::string word(1 << 20, 'a');

  EXPECT_EQ(*tokenizer.decode(*tokenizer.encode(word)), word);
  const std::string blanks(1 << 20, ' ');
  EXPECT_EQ(*tokenizer.decode(*tokenizer.encode(blanks)), blanks);
}

TEST(Tokenizer, TakesWholeWordsFromTheVocabularyWhenMergesAreIgnored) {
  const std::string json = small_json("", R"(,"ignore_merges":true)");
  std::string without_merges = json;
  without_merges.replace(without_merges.find(R"("a b",["ab","c"],)"), 17, "");

  EXPECT_THAT(*Tokenizer::parse(without_merges)->encode("abc"), ElementsAre(257));
}

TEST(Tokenizer, EncodesFromManyThreadsAtOnce) {
  const Tokenizer tokenizer = fable();
  const std::string text = "Once upon a time there was a king who had three daughters.";
  const auto expected = *tokenizer.encode(text);
  std::vector<int> wrong(4, 0);
  {
    std::vector<std::jthread> threads;
    for (int& count : wrong) {
      threads.emplace_back([&] {
        for (int i = 0; i < 200; ++i) {
          count += *tokenizer.encode(text) == expected ? 0 : 1;
        }
      });
    }
  }

  EXPECT_THAT(wrong, ElementsAre(0, 0, 0, 0));
}

TEST(Tokenizer, RefusesByNameWhatItCannotDo) {
  EXPECT_THAT(
      refusal("", R"(,"dropout":0.1)"), HasSubstr("Unsupported: tokenizer model option dropout")
  );
  EXPECT_THAT(refusal("", R"(,"unk_token":"?")"), HasSubstr("unk_token"));
  EXPECT_THAT(refusal("", R"(,"byte_fallback":true)"), HasSubstr("byte_fallback"));
  EXPECT_THAT(
      refusal("", R"(,"continuing_subword_prefix":"##")"), HasSubstr("continuing_subword_prefix")
  );
  EXPECT_THAT(
      refusal(R"(,"normalizer":{"type":"NFKC"})"), HasSubstr("Unsupported: normalizer NFKC")
  );
  EXPECT_THAT(
      refusal(R"(,"pre_tokenizer":{"type":"Metaspace"})"), HasSubstr("pre_tokenizer Metaspace")
  );
  EXPECT_THAT(
      refusal(R"(,"pre_tokenizer":{"type":"Digits"})"), HasSubstr("without a ByteLevel step")
  );
  EXPECT_THAT(
      refusal(R"(,"pre_tokenizer":)" + split_step(R"({"Regex":"(a"})", "Isolated")),
      HasSubstr("pattern")
  );
  EXPECT_THAT(
      refusal(R"(,"pre_tokenizer":)" + split_step(R"({"String":"a"})", "Sideways")),
      HasSubstr("Sideways")
  );
  EXPECT_THAT(
      refusal(R"(,"post_processor":{"type":"BertProcessing"})"), HasSubstr("BertProcessing")
  );
  EXPECT_THAT(refusal(R"(,"added_tokens":[{"id":-1,"content":"x"}])"), HasSubstr("Corrupt"));
  EXPECT_EQ(refusal(R"(,"truncation":null,"padding":null)"), "accepted");
}

TEST(Tokenizer, RefusesVocabulariesThatContradictThemselves) {
  const auto parse = [](const std::string& model) {
    const auto tokenizer =
        Tokenizer::parse(R"({"decoder":{"type":"ByteLevel"},"model":)" + model + "}");
    return tokenizer.ok() ? "accepted" : tokenizer.error().message;
  };

  EXPECT_THAT(parse(R"({"vocab":{"a":99999999999},"merges":[]})"), HasSubstr("outside 0 to"));
  EXPECT_THAT(parse(R"({"vocab":{"a":-1},"merges":[]})"), HasSubstr("outside 0 to"));
  EXPECT_THAT(parse(R"({"vocab":{"a":0},"merges":["a a"]})"), HasSubstr("outside the vocabulary"));
  EXPECT_THAT(parse(R"({"vocab":{"a":0},"merges":["aa"]})"), HasSubstr("not a pair"));
  EXPECT_THAT(parse(R"({"vocab":[],"merges":[]})"), HasSubstr("no vocab object"));
  EXPECT_EQ(parse(R"({"vocab":{"a":0},"merges":[]})"), "accepted");
  EXPECT_FALSE(Tokenizer::parse("").ok());
  EXPECT_FALSE(Tokenizer::load("/no/such/tokenizer.json").ok());
}

TEST(Tokenizer, SaysWhichByteTheVocabularyLacks) {
  const auto tokenizer =
      Tokenizer::parse(R"({"decoder":{"type":"ByteLevel"},"model":{"vocab":{"a":0},"merges":[]}})");

  EXPECT_THAT(*tokenizer->encode("aa"), ElementsAre(0, 0));
  EXPECT_THAT(tokenizer->encode("ab").error().message, HasSubstr("0x62"));
}

}  // namespace
}  // namespace pleiad::text
