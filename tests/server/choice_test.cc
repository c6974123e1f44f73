#include "server/choice.h"

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/server/support.h"

namespace pleiad::server {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

// The tokens whose bytes are each of `bytes`, one token a byte.
std::vector<TokenId> byte_tokens(std::string_view bytes) {
  std::vector<TokenId> out;
  for (TokenId id = 0; out.size() < bytes.size(); ++id) {
    if (id == fable().vocab_size()) break;
    if (fable().token_bytes(id) == bytes.substr(out.size(), 1)) {
      out.push_back(id);
      id = 0;
    }
  }
  EXPECT_EQ(out.size(), bytes.size());
  return out;
}

Choice make(std::vector<std::string> stop, bool include_stop = false) {
  return *Choice::create({
      .tokenizer = &fable(),
      .stop = std::move(stop),
      .include_stop = include_stop,
      .logprobs = true,
      .token_ids = true,
  });
}

// What each token of `tokens` lets be shown, and what the end does.
struct Shown {
  std::vector<std::string> pieces;
  std::vector<TokenId> ids;
  std::vector<std::size_t> offsets;
};

void take_into(Choice& choice, Shown& out) {
  ChoiceDelta delta = choice.take();
  EXPECT_EQ(delta.scores.size(), delta.token_ids.size());
  out.pieces.push_back(delta.text);
  for (const TokenId id : delta.token_ids) {
    out.ids.push_back(id);
  }
  for (const ScoredToken& token : delta.scores) {
    out.offsets.push_back(token.text_offset);
  }
}

Shown run(Choice& choice, const std::vector<TokenId>& tokens, bool end = true) {
  Shown out;
  for (const TokenId id : tokens) {
    choice.push(event_of(id, 1));
    take_into(choice, out);
  }
  if (end) {
    choice.end({.reason = api::FinishReason::Length});
    take_into(choice, out);
  }
  return out;
}

TEST(Choice, ShowsTokensAsTheyCome) {
  Choice choice = make({});
  const auto tokens = byte_tokens("abc");

  const Shown shown = run(choice, tokens);

  EXPECT_THAT(shown.pieces, ElementsAre("a", "b", "c", ""));
  EXPECT_EQ(shown.ids, tokens);
  EXPECT_THAT(shown.offsets, ElementsAre(0U, 1U, 2U));
  EXPECT_EQ(choice.finish_reason(), "length");
  EXPECT_EQ(choice.stop_reason_json(), "null");
  EXPECT_EQ(choice.output_tokens(), 3);
}

TEST(Choice, HoldsTheTokensOfHalfACharacter) {
  Choice choice = make({});
  const auto tokens = byte_tokens(
      "a\xE2\x82\xAC"
      "b"
  );
  Shown shown;

  choice.push(event_of(tokens[0]));
  choice.push(event_of(tokens[1]));
  choice.push(event_of(tokens[2]));
  take_into(choice, shown);
  EXPECT_THAT(shown.ids, ElementsAre(tokens[0]));
  choice.push(event_of(tokens[3]));
  take_into(choice, shown);
  choice.push(event_of(tokens[4]));
  take_into(choice, shown);

  EXPECT_THAT(shown.pieces, ElementsAre("a", "\xE2\x82\xAC", "b"));
  EXPECT_EQ(shown.ids, tokens);
  EXPECT_THAT(shown.offsets, ElementsAre(0U, 1U, 1U, 1U, 2U));
}

TEST(Choice, FlushesHalfACharacterAtTheEnd) {
  Choice choice = make({});
  const auto tokens = byte_tokens("a\xE2\x82");

  const Shown shown = run(choice, tokens);

  EXPECT_THAT(shown.pieces, ElementsAre("a", "", "", "\xEF\xBF\xBD"));
  EXPECT_EQ(shown.ids, tokens);
}

TEST(Choice, NeverShowsAnyPartOfAStopStringSplitOverTokens) {
  Choice choice = make({"STOP"});
  const auto tokens = byte_tokens("abSTOPcd");

  const Shown shown = run(choice, tokens);

  EXPECT_THAT(shown.pieces, ElementsAre("a", "b", "", "", "", "", "", "", ""));
  EXPECT_THAT(shown.ids, ElementsAre(tokens[0], tokens[1]));
  EXPECT_EQ(choice.finish_reason(), "stop");
  EXPECT_EQ(choice.stop_reason_json(), "\"STOP\"");
  EXPECT_EQ(choice.output_tokens(), 6);  // those behind the match never counted
}

TEST(Choice, ShowsAStopStringThatIsAskedFor) {
  Choice choice = make({"STOP"}, true);
  const auto tokens = byte_tokens("aSTOPc");

  const Shown shown = run(choice, tokens);

  EXPECT_THAT(shown.pieces, ElementsAre("a", "", "", "", "STOP", "", ""));
  EXPECT_EQ(shown.ids, std::vector(tokens.begin(), tokens.end() - 1));
}

TEST(Choice, ShowsHeldTokensWhenTheStopStringDoesNotCome) {
  Choice choice = make({"STOP"});
  const auto tokens = byte_tokens("STaSTO");

  const Shown shown = run(choice, tokens);

  EXPECT_THAT(shown.pieces, ElementsAre("", "", "STa", "", "", "", "STO"));
  EXPECT_EQ(shown.ids, tokens);
  EXPECT_EQ(choice.finish_reason(), "length");
}

TEST(Choice, KeepsATokenHeldWhileEarlierOnesAreShown) {
  Choice choice = make({"STOP"});
  const auto tokens = byte_tokens("STSTOP");
  Shown shown = run(choice, {tokens[0], tokens[1], tokens[2]}, false);
  // The second S ends the first attempt, and may begin another.
  EXPECT_THAT(shown.pieces, ElementsAre("", "", "ST"));
  EXPECT_THAT(shown.ids, ElementsAre(tokens[0], tokens[1]));

  shown = run(choice, {tokens[3], tokens[4], tokens[5]});

  EXPECT_THAT(shown.pieces, ElementsAre("", "", "", ""));
  EXPECT_THAT(shown.ids, IsEmpty());
  EXPECT_EQ(choice.finish_reason(), "stop");
}

TEST(Choice, ShowsATokenThatAStopStringCutsInTwo) {
  const auto tokens = encode(" and");
  ASSERT_EQ(tokens.size(), 1U);
  Choice choice = make({"nd"});

  const Shown shown = run(choice, tokens);

  EXPECT_THAT(shown.pieces, ElementsAre(" a", ""));
  EXPECT_EQ(shown.ids, tokens);
  EXPECT_EQ(choice.finish_reason(), "stop");
}

TEST(Choice, StopsInsideTheFirstTokenWithNothingToShow) {
  const auto tokens = encode(" and");
  Choice choice = make({" a"});

  const Shown shown = run(choice, tokens);

  EXPECT_THAT(shown.pieces, ElementsAre("", ""));
  EXPECT_THAT(shown.ids, IsEmpty());
}

TEST(Choice, FindsAStopStringOfManyByteCharacters) {
  Choice choice = make({"\xE2\x82\xAC\xE2\x82\xAC"});
  const auto tokens = byte_tokens("a\xE2\x82\xAC\xE2\x82\xAC");

  const Shown shown = run(choice, tokens);

  EXPECT_THAT(shown.pieces, ElementsAre("a", "", "", "", "", "", "", ""));
  EXPECT_THAT(shown.ids, ElementsAre(tokens[0]));
  EXPECT_EQ(choice.stop_reason_json(), "\"\xE2\x82\xAC\xE2\x82\xAC\"");
}

TEST(Choice, FindsAStopStringThatTheEndCompletes) {
  Choice choice = make({"\xEF\xBF\xBD"});
  const auto tokens = byte_tokens("a\xE2");

  const Shown shown = run(choice, tokens);

  EXPECT_THAT(shown.pieces, ElementsAre("a", "", ""));
  EXPECT_EQ(choice.finish_reason(), "stop");
}

TEST(Choice, TellsTheClientsStopTokenButNotTheModelsOwn) {
  for (const TokenId id : {5U, 7U}) {
    Choice choice = *Choice::create({.tokenizer = &fable(), .stop_tokens = {7, 9}});

    choice.end({.reason = api::FinishReason::Stop, .stop_token = id});

    EXPECT_EQ(choice.finish_reason(), "stop");
    EXPECT_EQ(choice.stop_reason_json(), id == 7U ? "7" : "null");
  }
}

TEST(Choice, LeavesSpecialTokensOutOfTheTextWhenAsked) {
  for (const bool skip : {true, false}) {
    Choice choice =
        *Choice::create({.tokenizer = &fable(), .skip_special = skip, .token_ids = true});
    choice.push(event_of(token("<|end|>")));
    choice.push(event_of(byte_tokens("a")[0]));
    choice.end({.reason = api::FinishReason::Length});

    const ChoiceDelta delta = choice.take();

    EXPECT_EQ(delta.text, skip ? "a" : "<|end|>a");
    EXPECT_EQ(delta.token_ids.size(), 2U);
  }
}

TEST(Choice, WithoutATokenizerGivesIdsAtOnce) {
  Choice choice = *Choice::create({.token_ids = true});

  choice.push(event_of(7));

  EXPECT_THAT(choice.take().token_ids, ElementsAre(7U));
  choice.end({.reason = api::FinishReason::Length});
  EXPECT_TRUE(choice.take().empty());
}

TEST(Choice, KeepsScoresAndIdsToItselfUnlessAsked) {
  Choice choice = *Choice::create({.tokenizer = &fable()});

  choice.push(event_of(byte_tokens("a")[0], 3));

  const ChoiceDelta delta = choice.take();
  EXPECT_EQ(delta.text, "a");
  EXPECT_THAT(delta.scores, IsEmpty());
  EXPECT_THAT(delta.token_ids, IsEmpty());
}

TEST(Choice, RefusesStopStringsTheMatcherRefuses) {
  EXPECT_FALSE(Choice::create({.tokenizer = &fable(), .stop = {""}}).ok());
  EXPECT_FALSE(Choice::create({.tokenizer = &fable(), .stop = {"\xFF"}}).ok());
}

}  // namespace
}  // namespace pleiad::server
