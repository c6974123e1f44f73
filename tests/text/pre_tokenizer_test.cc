#include "text/detail/pre_tokenizer.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/text/small_tokenizer.h"

namespace pleiad::text {
namespace {

using ::testing::ElementsAre;

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

}  // namespace
}  // namespace pleiad::text
