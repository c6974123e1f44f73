#include "text/detail/pattern.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pleiad::text::detail {
namespace {

using ::testing::HasSubstr;

TEST(Pattern, LeavesWhatBothReadAlike) {
  const std::string same = R"((?i:'s|'t)|[^\r\n\p{L}\p{N}]?+\p{L}+|\s+(?!\S))";

  EXPECT_EQ(*pcre_of_onig(same), same);
}

TEST(Pattern, RewritesNestedAndIntersectedClasses) {
  EXPECT_EQ(*pcre_of_onig("[ab&&[^b]]+"), "(?:(?=[^b])[ab])+");
  EXPECT_EQ(*pcre_of_onig("[a[bc]]"), "(?:(?:[a]|[bc]))");
  EXPECT_EQ(*pcre_of_onig("[^a[bc]]"), "(?:(?!(?:[a]|[bc]))(?s:.))");
  EXPECT_EQ(*pcre_of_onig("[[:alpha:]_]"), "[[:alpha:]_]");
  EXPECT_EQ(*pcre_of_onig("[]a]"), "[]a]");
}

TEST(Pattern, RewritesEscapesThatMeanSomethingElse) {
  EXPECT_EQ(*pcre_of_onig(R"(\h\H[\h])"), "[0-9A-Fa-f][^0-9A-Fa-f][0-9A-Fa-f]");
  EXPECT_EQ(*pcre_of_onig(R"(\u4e00)"), R"(\x{4e00})");
  EXPECT_EQ(*pcre_of_onig(R"(\p{Han}\p{^Greek}\p{Lu})"), R"(\p{sc:Han}\p{^sc:Greek}\p{Lu})");
}

TEST(Pattern, RefusesWhatHasNoEqual) {
  EXPECT_THAT(pcre_of_onig("(?m:.)").error().message, HasSubstr("flag m"));
  EXPECT_FALSE(pcre_of_onig("[a").ok());
  EXPECT_FALSE(pcre_of_onig("a\\").ok());
  EXPECT_FALSE(pcre_of_onig("\\u12").ok());
  EXPECT_FALSE(pcre_of_onig("\\p{L").ok());
  EXPECT_FALSE(pcre_of_onig(std::string(100, '[')).ok());
}

}  // namespace
}  // namespace pleiad::text::detail
