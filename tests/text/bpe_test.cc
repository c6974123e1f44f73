#include "text/detail/bpe.h"

#include <array>
#include <string>
#include <vector>

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
  EXPECT_THAT(encode(bpe, "aaab"), ElementsAre(2, 3)) << "a a ranks before a ab";
}

// The definition, one merge at a time: `merges` by rank as (left, right, result).
std::vector<TokenId>
merged_slowly(std::vector<TokenId> ids, const std::vector<std::array<TokenId, 3>>& merges) {
  while (true) {
    bool any = false;
    for (const auto& [left, right, result] : merges) {
      for (std::size_t i = 0; i + 1 < ids.size() && !any; ++i) {
        if (ids[i] != left || ids[i + 1] != right) continue;
        ids[i] = result;
        ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(i) + 1);
        any = true;
      }
      if (any) break;
    }
    if (!any) return ids;
  }
}

TEST(Bpe, ShortAndLongWordsMergeAsTheDefinitionSays) {
  const Bpe bpe = model(
      R"({"vocab":{"a":0,"b":1,"aa":2,"ab":3,"aab":4,"abab":5,"ba":6},"merges":["a b","b a","ab ab","a a","a ab"]})"
  );
  constexpr std::uint64_t kSeed = 3;
  Random random(kSeed);
  for (int round = 0; round < 300; ++round) {
    std::string word;
    std::vector<TokenId> bytes;
    for (std::uint64_t i = 1 + random.below(120); i > 0; --i) {
      bytes.push_back(static_cast<TokenId>(random.below(2)));
      word += "ab"[bytes.back()];
    }
    const auto expected =
        merged_slowly(bytes, {{0, 1, 3}, {1, 0, 6}, {3, 3, 5}, {0, 0, 2}, {0, 3, 4}});
    EXPECT_EQ(encode(bpe, word), expected) << "seed " << kSeed << ": " << word;
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
