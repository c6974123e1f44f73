#include "server/prompt_scores.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/server/support.h"

namespace pleiad::server {
namespace {

using testing::ElementsAre;

std::vector<std::size_t> offsets(const PromptScores& scores) {
  std::vector<std::size_t> out;
  for (const ScoredToken& token : scores.tokens()) {
    out.push_back(token.text_offset);
  }
  return out;
}

PromptScores scored(const PreparedPrompt& prompt) {
  PromptScores scores(prompt, &fable());
  for (std::size_t i = 1; i < prompt.tokens.size(); ++i) {
    scores.add(event_of(prompt.tokens[i], 3));
  }
  return scores;
}

TEST(PromptScores, BeginWithTheUnscoredFirstToken) {
  const PreparedPrompt prompt{.tokens = encode("a"), .text = "a"};
  const PromptScores scores(prompt, &fable());

  ASSERT_EQ(scores.tokens().size(), 1U);
  EXPECT_FALSE(scores.tokens()[0].scored);
  EXPECT_EQ(scores.tokens()[0].chosen.token, prompt.tokens[0]);
}

TEST(PromptScores, CountOffsetsInCharacters) {
  const std::string text =
      "a\xC3\xA9"
      "b";
  const PreparedPrompt prompt{.tokens = encode(text), .text = text};
  ASSERT_EQ(prompt.tokens.back(), token("b"));

  EXPECT_EQ(offsets(scored(prompt)).back(), 2U);
}

TEST(PromptScores, GiveATokenThatWasAddedNoRoom) {
  const TokenId bos = *fable().bos();
  const PreparedPrompt added{.tokens = {bos, token("a"), token("b")}, .text = "ab"};
  const PreparedPrompt given{.tokens = {bos, token("a")}, .text = "<|bos|>a"};

  EXPECT_THAT(offsets(scored(added)), ElementsAre(0U, 0U, 1U));
  EXPECT_THAT(offsets(scored(given)), ElementsAre(0U, 7U));
}

TEST(PromptScores, CutAlternativesToWhatWasAskedFor) {
  const PreparedPrompt prompt{.tokens = {token("a"), token("b")}, .text = "ab"};
  const PromptScores scores = scored(prompt);

  EXPECT_EQ(scores.with_top(1)[1].top.size(), 1U);
  EXPECT_EQ(scores.with_top(9)[1].top.size(), 3U);
  EXPECT_EQ(scores.tokens()[1].top.size(), 3U);
}

}  // namespace
}  // namespace pleiad::server
