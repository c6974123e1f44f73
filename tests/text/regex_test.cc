#include "text/detail/regex.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pleiad::text::detail {
namespace {

TEST(Regex, FindsTheFirstMatchFromAPlaceOnwards) {
  const auto regex = Regex::compile("b+");
  RegexScratch scratch;

  EXPECT_EQ(**regex->find("abba b", 0, scratch), (TextRange{1, 3}));
  EXPECT_EQ(**regex->find("abba b", 3, scratch), (TextRange{5, 6}));
  EXPECT_FALSE(regex->find("abba", 3, scratch)->has_value());
  EXPECT_FALSE(regex->find("", 0, scratch)->has_value());
}

TEST(Regex, ALiteralMeansItself) {
  const auto regex = Regex::compile_literal("a.*");
  RegexScratch scratch;

  EXPECT_FALSE(regex->find("abc", 0, scratch)->has_value());
  EXPECT_TRUE(regex->find("xa.*", 0, scratch)->has_value());
}

TEST(Regex, GivesUpOnPatternsThatBacktrackForEver) {
  const auto regex = Regex::compile("(a+)+b");
  RegexScratch scratch;

  const auto match = regex->find(std::string(40, 'a') + "c", 0, scratch);

  EXPECT_TRUE(!match.ok() || !match->has_value());
}

TEST(Regex, RefusesWhatDoesNotCompile) {
  EXPECT_EQ(Regex::compile("(a").error().kind, ErrorKind::Unsupported);
}

}  // namespace
}  // namespace pleiad::text::detail
