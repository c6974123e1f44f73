#include "text/detail/bpe.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"

namespace pleiad::text::detail {
namespace {

using ::testing::ElementsAre;

Bpe model(std::string_view json) {
  return Bpe::build(*parse_json(json)).value();
}

std::vector<TokenId> encode(const Bpe& bpe, std::string_view word) {
  std::vector<TokenId> ids;
  EXPECT_TRUE(bpe.encode(word, ids).ok());
  return ids;
}

TEST(Bpe, MergesTheLowestRankFirstAndTheLeftmostOfEquals) {
  const Bpe bpe =
      model(R"({"vocab":{"a":0,"b":1,"aa":2,"ab":3,"aab":4},"merges":["a b","a a","a ab"]})");

  EXPECT_THAT(encode(bpe, "aab"), ElementsAre(4));
  EXPECT_THAT(encode(bpe, "aaa"), ElementsAre(2, 0));
  EXPECT_THAT(encode(bpe, "aaab"), ElementsAre(0, 4))
      << "ab goes first, then a ab before a a is next";
}

TEST(Bpe, ShortAndLongWordsMergeAlike) {
  const Bpe bpe = model(
      R"({"vocab":{"a":0,"b":1,"aa":2,"ab":3,"aab":4,"abab":5,"ba":6},"merges":["a b","b a","ab ab","a a","a ab"]})"
  );
  constexpr std::uint64_t kSeed = 3;
  Random random(kSeed);
  for (int round = 0; round < 300; ++round) {
    // x merges with nothing, so both halves merge as if alone.
    std::string word;
    for (std::uint64_t i = 20 + random.below(26); i > 0; --i)
      word += "ab"[random.below(2)];
    const auto once = encode(bpe, word);
    std::vector<TokenId> again;
    // Long words go another way than short ones; a long run has its parts in the middle.
    const auto many = encode(bpe, word + word + word + word);
    EXPECT_LE(many.size(), 4 * once.size()) << "seed " << kSeed;
    for (const TokenId id : many)
      again.push_back(id);
    std::string bytes;
    for (const TokenId id : again)
      bytes += bpe.tokens()[id];
    EXPECT_EQ(bytes, word + word + word + word);
  }
}

TEST(Bpe, AnswersTheSameOnceItKnowsAWord) {
  const Bpe bpe = model(R"({"vocab":{"a":0,"b":1,"ab":2,"abb":3},"merges":["a b"]})");

  for (int i = 0; i < 3; ++i) {
    EXPECT_THAT(encode(bpe, "ab"), ElementsAre(2));
    EXPECT_THAT(encode(bpe, "abb"), ElementsAre(2, 1))
        << "in the vocabulary, but no merge leads there";
  }
}

TEST(Bpe, FindsTokensByTheirBytes) {
  const Bpe bpe = model(R"({"vocab":{"a":0,"\u0120a":1,"<\uff5c>":2},"merges":[]})");

  EXPECT_EQ(bpe.find(" a"), TokenId{1});
  EXPECT_EQ(bpe.find("<\xEF\xBD\x9C>"), std::nullopt);
  EXPECT_EQ(bpe.find_outside_alphabet("<\xEF\xBD\x9C>"), TokenId{2});
}

}  // namespace
}  // namespace pleiad::text::detail
