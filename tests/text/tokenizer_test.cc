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
#include "text/detail/byte_alphabet.h"

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
  for (const Json& id : *array.as_array())
    ids.push_back(static_cast<TokenId>(*id.as_int()));
  return ids;
}

// A tokenizer.json with all 256 bytes (the id is the byte), "ab" (256), "abc" (257), " a" (258) and
// these added members.
std::string small_json(const std::string& members, const std::string& model_members = "") {
  std::string vocab;
  for (int byte = 0; byte < 256; ++byte) {
    append_json_string(detail::alphabet_of_bytes(std::string(1, static_cast<char>(byte))), vocab);
    vocab += ":" + std::to_string(byte) + ",";
  }
  vocab += R"("ab":256,"abc":257,"\u0120a":258)";
  return R"({"decoder":{"type":"ByteLevel"},"model":{"type":"BPE","vocab":{)" + vocab +
         R"(},"merges":["a b",["ab","c"],"\u0120 a"])" + model_members + "}" + members + "}";
}

Tokenizer small(const std::string& members, const std::string& config = "") {
  return Tokenizer::parse(small_json(members), config).value();
}

std::string refusal(const std::string& members, const std::string& model_members = "") {
  const auto tokenizer = Tokenizer::parse(small_json(members, model_members));
  if (tokenizer.ok()) return "accepted";
  return std::string(to_string(tokenizer.error().kind)) + ": " + tokenizer.error().message;
}

// The words that `pre_tokenizer` cuts "..." into, seen through an unmerged vocabulary.
std::string split(const std::string& pre_tokenizer, std::string_view text) {
  const Tokenizer tokenizer = small(R"(,"pre_tokenizer":)" + pre_tokenizer);
  std::string shown;
  const auto ids = *tokenizer.encode(text);
  for (const TokenId id : ids) {
    shown.append(tokenizer.token_bytes(id)) += '/';
  }
  return shown;
}

std::string
split_step(const std::string& pattern, const std::string& behavior, bool invert = false) {
  return R"({"type":"Sequence","pretokenizers":[{"type":"Split","pattern":)" + pattern +
         R"(,"behavior":")" + behavior + R"(","invert":)" + (invert ? "true" : "false") +
         R"(},{"type":"ByteLevel","add_prefix_space":false,"use_regex":false}]})";
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
      for (std::uint64_t i = random.below(8); i > 0; --i)
        word += "abc "[random.below(4)];
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
        for (int i = 0; i < 200; ++i)
          count += *tokenizer.encode(text) == expected ? 0 : 1;
      });
    }
  }

  EXPECT_THAT(wrong, ElementsAre(0, 0, 0, 0));
}

TEST(PreTokenizer, SplitsAsEachBehaviourSays) {
  // In this vocabulary "ab" merges, so a slash inside it shows a cut.
  const std::string letter = R"({"String":"-"})";

  EXPECT_EQ(split(split_step(letter, "Isolated"), "ab-ab"), "ab/-/ab/");
  EXPECT_EQ(split(split_step(letter, "Removed"), "ab-ab-"), "ab/ab/");
  EXPECT_EQ(split(split_step(R"({"Regex":"[a]"})", "Isolated"), "abab"), "a/b/a/b/");
  EXPECT_EQ(split(split_step(R"({"Regex":"[a]"})", "MergedWithNext"), "abab"), "ab/ab/");
  EXPECT_EQ(split(split_step(R"({"Regex":"[b]"})", "MergedWithPrevious"), "abab"), "ab/ab/");
  EXPECT_EQ(split(split_step(R"({"Regex":"[a]"})", "MergedWithPrevious"), "abab"), "a/b/a/b/");
  EXPECT_EQ(split(split_step(R"({"Regex":"[ab]"})", "Contiguous"), "abab"), "ab/ab/");
  EXPECT_EQ(split(split_step(R"({"Regex":"a"})", "Removed", true), "abab"), "a/a/");
  EXPECT_EQ(split(split_step(R"x({"Regex":"(?=b)"})x", "Isolated"), "abab"), "a/b/a/b/");
  EXPECT_EQ(split(split_step(R"({"String":"a.b"})", "Removed"), "aba.b"), "ab/");
}

TEST(PreTokenizer, ReadsPatternsAsOnigurumaDoes) {
  EXPECT_EQ(split(split_step(R"({"Regex":"[ab&&[^b]]"})", "Isolated"), "abab"), "a/b/a/b/");
  EXPECT_EQ(split(split_step(R"({"Regex":"[^[a][c]]"})", "Removed"), "abc"), "a/c/");
  EXPECT_EQ(split(split_step(R"({"Regex":"\\h"})", "Removed"), "abx"), "x/");
  EXPECT_EQ(split(split_step(R"({"Regex":"b$"})", "Removed"), "ab\nab"), "a/\n/a/")
      << "$ is the end of any line";
  EXPECT_EQ(
      split(
          split_step(R"({"Regex":"\\p{Han}+"})", "Removed"),
          "a\xE4\xB8\x80"
          "b"
      ),
      "a/b/"
  );
  EXPECT_EQ(split(split_step(R"({"Regex":"\\s+$"})", "Removed"), "ab  x  "), "ab/ / /x/");
  EXPECT_EQ(split(split_step(R"({"Regex":"[\\u0061]"})", "Removed"), "ab"), "b/");
}

TEST(PreTokenizer, DigitsAloneOrTogether) {
  const auto digits = [](const std::string& individual) {
    return R"({"type":"Sequence","pretokenizers":[{"type":"Digits","individual_digits":)" +
           individual + R"(},{"type":"ByteLevel","add_prefix_space":false,"use_regex":false}]})";
  };

  EXPECT_EQ(split(digits("true"), "ab12ab"), "ab/1/2/ab/");
  EXPECT_EQ(split(digits("false"), "ab12ab"), "ab/1/2/ab/") << "no merges of digits here";
}

TEST(PreTokenizer, ByteLevelAddsASpaceAndUsesItsOwnPattern) {
  EXPECT_EQ(
      split(R"({"type":"ByteLevel","add_prefix_space":true,"use_regex":true})", "a a"), " a/ a/"
  );
  EXPECT_EQ(split(R"({"type":"ByteLevel","add_prefix_space":true,"use_regex":true})", " a"), " a/");
  EXPECT_EQ(
      split(R"({"type":"ByteLevel","add_prefix_space":false,"use_regex":true})", "ab  a"),
      "ab/ / a/"
  );
}

TEST(PreTokenizer, CutsAMegabyteOfBlanksInLinearTime) {
  const Tokenizer tokenizer =
      small(R"(,"pre_tokenizer":)" + split_step(R"({"Regex":"\\s+$"})", "Isolated"));
  const std::string text = std::string(1 << 20, ' ') + "x";

  EXPECT_EQ(tokenizer.encode(text)->size(), text.size());
}

TEST(AddedTokens, LongestLeftmostWins) {
  const Tokenizer tokenizer = small(
      R"(,"added_tokens":[{"id":300,"content":"<x>","special":true},{"id":301,"content":"<x>y","special":false},{"id":302,"content":"y<","special":false}])"
  );

  EXPECT_THAT(*tokenizer.encode("a<x>yb"), ElementsAre('a', 301, 'b'));
  EXPECT_THAT(*tokenizer.encode("<x>z"), ElementsAre(300, 'z'));
  EXPECT_THAT(*tokenizer.encode("y<x>"), ElementsAre(302, 'x', '>'));
  EXPECT_EQ(tokenizer.vocab_size(), 303U);
}

TEST(AddedTokens, ShorterTokenStandsInWhenTheLongerReachesUntrustedText) {
  const Tokenizer tokenizer = small(
      R"(,"added_tokens":[{"id":300,"content":"<x>","special":true},{"id":301,"content":"<x>y","special":true},{"id":302,"content":"zz"}])"
  );

  EXPECT_THAT(*tokenizer.encode("<x>y", {.untrusted = {{3, 4}}}), ElementsAre(300, 'y'));
  EXPECT_THAT(*tokenizer.encode("zz", {.untrusted = {{0, 2}}}), ElementsAre(302))
      << "tokens that are not special carry no authority";
}

TEST(AddedTokens, StripBlanksAndRespectWordsAsDeclared) {
  const Tokenizer tokenizer = small(
      R"(,"added_tokens":[{"id":300,"content":"<l>","lstrip":true},{"id":301,"content":"<r>","rstrip":true},{"id":302,"content":"b","single_word":true}])"
  );

  EXPECT_THAT(*tokenizer.encode("x \t<l> x"), ElementsAre('x', 300, ' ', 'x'));
  EXPECT_THAT(*tokenizer.encode("x <r> \nx"), ElementsAre('x', ' ', 301, 'x'));
  EXPECT_THAT(*tokenizer.encode("xb b,_b"), ElementsAre('x', 'b', ' ', 302, ',', '_', 'b'));
}

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

TEST(PostProcessor, FramesTheTextOnlyWhenAsked) {
  const Tokenizer tokenizer = small(
      R"(,"added_tokens":[{"id":300,"content":"<s>","special":true}],"post_processor":{"type":"Sequence","processors":[{"type":"ByteLevel"},{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"special_tokens":{"<s>":{"id":"<s>","ids":[300]}}}]})"
  );

  EXPECT_THAT(*tokenizer.encode("x"), ElementsAre('x'));
  EXPECT_THAT(*tokenizer.encode("x", {.add_special_tokens = true}), ElementsAre(300, 'x'));
}

TEST(PostProcessor, ExplicitFlagsOfTheConfigDecide) {
  const std::string added =
      R"(,"added_tokens":[{"id":300,"content":"<s>","special":true},{"id":301,"content":"</s>","special":true}])";
  const Tokenizer both = small(
      added,
      R"({"bos_token":{"content":"<s>"},"eos_token":"</s>","add_bos_token":true,"add_eos_token":true})"
  );
  const Tokenizer neither =
      small(added, R"({"bos_token":"<s>","eos_token":null,"add_bos_token":false})");

  EXPECT_THAT(*both.encode("x", {.add_special_tokens = true}), ElementsAre(300, 'x', 301));
  EXPECT_THAT(*neither.encode("x", {.add_special_tokens = true}), ElementsAre('x'));
  EXPECT_EQ(neither.eos(), std::nullopt);
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
