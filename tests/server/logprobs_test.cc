#include "server/logprobs.h"

#include <limits>
#include <string>

#include <gtest/gtest.h>

#include "tests/server/support.h"

namespace pleiad::server {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

TokenId byte_token(std::string_view byte) {
  for (TokenId id = 0; id < fable().vocab_size(); ++id) {
    if (fable().token_bytes(id) == byte) return id;
  }
  ADD_FAILURE();
  return 0;
}

std::string chat(const TokenNames& names, const std::vector<ScoredToken>& tokens) {
  std::string out;
  append_chat_logprobs(names, tokens, out);
  return out;
}

std::string completion(const TokenNames& names, const std::vector<ScoredToken>& tokens) {
  std::string out;
  append_completion_logprobs(names, tokens, out);
  return out;
}

std::string prompt(const TokenNames& names, const std::vector<ScoredToken>& tokens) {
  std::string out;
  append_prompt_logprobs(names, tokens, out);
  return out;
}

TEST(CharactersIn, CountsCodePoints) {
  EXPECT_EQ(characters_in(""), 0U);
  EXPECT_EQ(characters_in("ab"), 2U);
  EXPECT_EQ(characters_in("a\xE2\x82\xAC\xF0\x9F\x98\x80"), 3U);
}

TEST(ScoredToken, TakesOnlyTheValidAlternatives) {
  const ScoredToken token = scored_token(event_of(10, 2), 4);

  EXPECT_EQ(token.chosen.token, 10U);
  EXPECT_EQ(token.top.size(), 2U);
  EXPECT_EQ(token.text_offset, 4U);
  EXPECT_TRUE(token.scored);
}

TEST(TokenNames, WritesTextBytesOrIds) {
  EXPECT_EQ((TokenNames{.tokenizer = &fable()}).name(token("a")), "a");
  EXPECT_EQ((TokenNames{.tokenizer = &fable()}).name(byte_token("\xE2")), "bytes:\\xe2");
  EXPECT_EQ((TokenNames{.tokenizer = &fable(), .as_ids = true}).name(7), "token_id:7");
  EXPECT_EQ((TokenNames{}).name(7), "token_id:7");
}

TEST(ChatLogprobs, ListTokensWithBytesAndAlternatives) {
  const TokenNames names{.tokenizer = &fable()};
  const TokenId a = token("a");
  const TokenId b = token("b");

  EXPECT_EQ(
      json(chat(names, {{.chosen = {a, -0.5F}, .top = {{b, -0.25F}, {a, -0.5F}}}})),
      json(R"({"content": [{"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": [
                 {"token": "b", "logprob": -0.25, "bytes": [98]},
                 {"token": "a", "logprob": -0.5, "bytes": [97]}]}],
               "refusal": null})")
  );
  EXPECT_EQ(json(chat(names, {})), json(R"({"content": [], "refusal": null})"));
}

TEST(ChatLogprobs, HaveNoBytesWithoutATokenizer) {
  EXPECT_EQ(
      json(chat({}, {{.chosen = {3, -1.0F}}})),
      json(R"({"content": [{"token": "token_id:3", "logprob": -1, "bytes": null,
                            "top_logprobs": []}], "refusal": null})")
  );
}

TEST(ChatLogprobs, WriteTheImpossibleAsAFiniteNumber) {
  for (const float value : {-kInfinity, std::numeric_limits<float>::quiet_NaN(), -1e30F}) {
    const Json out = json(chat({}, {{.chosen = {3, value}}}));
    EXPECT_EQ(at(out, {"content", "0", "logprob"}).as_double(), -9999.0);
  }
}

TEST(CompletionLogprobs, AreFourListsOfOneLength) {
  const TokenNames names{.tokenizer = &fable()};
  const TokenId a = token("a");
  const TokenId b = token("b");

  EXPECT_EQ(
      json(completion(
          names,
          {
              {.chosen = {a, 0.0F}, .scored = false},
              {.chosen = {a, -0.5F}, .top = {{b, -0.25F}, {a, -0.5F}}, .text_offset = 1},
              {.chosen = {b, -2.5F}, .top = {{a, -0.5F}}, .text_offset = 2},
              {.chosen = {a, -2.0F}, .text_offset = 3},
          }
      )),
      json(R"({"tokens": ["a", "a", "b", "a"],
               "token_logprobs": [null, -0.5, -2.5, -2],
               "top_logprobs": [null, {"b": -0.25, "a": -0.5}, {"a": -0.5, "b": -2.5}, {"a": -2}],
               "text_offset": [0, 1, 2, 3]})")
  );
}

TEST(CompletionLogprobs, NeverRepeatAMember) {
  // Ids without a token all read alike; strict parsers refuse two members of one name.
  const TokenNames names{.tokenizer = &fable()};
  const Json out = json(
      completion(names, {{.chosen = {100'002, -3.0F}, .top = {{100'000, -1.0F}, {100'001, -2.0F}}}})
  );

  EXPECT_EQ(at(out, {"top_logprobs", "0"}), json(R"({"": -1})"));
}

TEST(PromptLogprobs, BeginWithNullAndHoldTheChosenTokenOnce) {
  const TokenNames names{.tokenizer = &fable()};
  const TokenId a = token("a");
  const TokenId b = token("b");

  const Json out = json(prompt(
      names,
      {{.chosen = {a, 0.0F}, .scored = false},
       {.chosen = {b, -2.0F}, .top = {{a, -0.5F}, {b, -2.0F}}}}
  ));

  EXPECT_TRUE(at(out, {"0"}).is_null());
  ASSERT_TRUE(at(out, {"1"}).is_object());
  EXPECT_EQ(at(out, {"1"}).as_object()->size(), 2U);
  EXPECT_EQ(at(out, {"1", std::to_string(a)}), json(R"({"logprob": -0.5, "decoded_token": "a"})"));
  EXPECT_EQ(at(out, {"1", std::to_string(b)}), json(R"({"logprob": -2, "decoded_token": "b"})"));
}

}  // namespace
}  // namespace pleiad::server
