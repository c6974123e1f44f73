#include "text/detail/added_tokens.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/text/small_tokenizer.h"

namespace pleiad::text {
namespace {

using ::testing::ElementsAre;

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

}  // namespace
}  // namespace pleiad::text
