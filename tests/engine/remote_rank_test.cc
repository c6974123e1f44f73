#include "engine/remote_rank.h"

#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "api/generation_wire.h"
#include "base/wire_bytes.h"
#include "tests/engine/engine_harness.h"
#include "tests/engine/fake_link.h"

namespace pleiad::engine {
namespace {

using ::testing::HasSubstr;

// Rank 5 of 8, whose node is a test.
class RemoteRankOf : public ::testing::Test {
 protected:
  static constexpr std::int64_t kVocabulary = 100;

  static RemoteRankOptions options() {
    return {
        .rank = 5,
        .ranks = 8,
        .open_max = 3,
        .limits = {.vocabulary = kVocabulary, .model_tokens_max = 64},
        .validate = [](const api::GenerationRequest& request) -> Result<void> {
          if (request.prompt.empty()) return invalid_input("the prompt has no tokens");
          return {};
        },
    };
  }
  static api::GenerationRequest request(std::int32_t max_tokens = 10) {
    return {.prompt = {1, 2, 3}, .max_tokens = max_tokens};
  }
  api::RequestId submit(RecordingSink& sink) { return rank_.submit(request(), sink).value(); }
  static Result<void>
  finish(RemoteRank& rank, api::RequestId id, api::FinishReason reason = api::FinishReason::Stop) {
    return rank.handle(
        RankMessage::Finish, api::encode(api::FinishEvent{.request = id, .reason = reason})
    );
  }
  static api::TokenEvent token(api::RequestId id, TokenId token) {
    api::TokenEvent event;
    event.request = id;
    event.chosen.token = token;
    return event;
  }

  RecordingLink link_;
  RemoteRank rank_{link_, options()};
};

TEST_F(RemoteRankOf, SendsRequestsWithIdsThatTellTheRank) {
  RecordingSink first;
  RecordingSink second;
  const api::RequestId one = submit(first);
  const api::RequestId two = submit(second);

  EXPECT_EQ(one.value() % 8, 5U);
  EXPECT_EQ(two.value() % 8, 5U);
  EXPECT_NE(one, two);
  const auto sent = link_.take();
  ASSERT_EQ(sent.size(), 2U);
  EXPECT_EQ(sent[0].kind, static_cast<std::uint32_t>(RankMessage::Submit));
  const auto message = api::decode_submit(sent[1].bytes).value();
  EXPECT_EQ(message.id, two);
  EXPECT_EQ(message.request.prompt, request().prompt);
  rank_.fail("the test is over", api::FinishReason::Error);
}

TEST_F(RemoteRankOf, EventsReachTheSinkOfTheirRequest) {
  RecordingSink sink;
  RecordingSink other;
  const api::RequestId id = submit(sink);
  submit(other);

  ASSERT_TRUE(rank_.handle(RankMessage::PromptToken, api::encode(token(id, 2))).ok());
  ASSERT_TRUE(rank_.handle(RankMessage::Token, api::encode(token(id, 7))).ok());
  ASSERT_TRUE(rank_.handle(RankMessage::Token, api::encode(token(id, 99))).ok());
  ASSERT_TRUE(finish(rank_, id).ok());

  EXPECT_EQ(sink.wait().reason, api::FinishReason::Stop);
  EXPECT_EQ(sink.ids(), (std::vector<TokenId>{7, 99}));
  EXPECT_EQ(sink.prompt_tokens().size(), 1U);
  rank_.fail("the test is over", api::FinishReason::Error);
  EXPECT_TRUE((other.wait(), other.tokens().empty()));
}

TEST_F(RemoteRankOf, RefusesAtOnceWhatTheRankWouldRefuse) {
  RecordingSink sink;
  const auto refused = rank_.submit({.prompt = {}}, sink);

  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind, ErrorKind::InvalidInput);
  EXPECT_TRUE(link_.take().empty());
  EXPECT_EQ(rank_.status().tokens_outstanding, 0);
}

TEST_F(RemoteRankOf, HoldsNoMoreRequestsThanTheRankHasPlaces) {
  std::vector<std::unique_ptr<RecordingSink>> sinks;
  std::vector<api::RequestId> ids;
  for (int i = 0; i < 3; ++i) {
    sinks.push_back(std::make_unique<RecordingSink>());
    ids.push_back(submit(*sinks.back()));
  }
  RecordingSink late;
  const auto refused = rank_.submit(request(), late);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind, ErrorKind::Exhausted);

  ASSERT_TRUE(finish(rank_, ids[1]).ok());

  EXPECT_TRUE(rank_.submit(request(), late).ok());
  rank_.fail("the test is over", api::FinishReason::Error);
}

TEST_F(RemoteRankOf, CancelFinishEarlyAndResetGoToTheRank) {
  rank_.cancel(api::RequestId(13));
  rank_.finish_early(api::RequestId(21));
  rank_.reset_prefix_cache();

  const auto sent = link_.take();
  ASSERT_EQ(sent.size(), 3U);
  const RankMessage kinds[] = {
      RankMessage::Cancel, RankMessage::FinishEarly, RankMessage::ResetPrefixCache};
  const std::uint64_t numbers[] = {13, 21, 5};
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(sent[i].kind, static_cast<std::uint32_t>(kinds[i]));
    EXPECT_EQ(ByteReader(sent[i].bytes).number<std::uint64_t>().value(), numbers[i]);
  }
}

TEST_F(RemoteRankOf, StatusIsTheLastReportWithTheTokensKnownHere) {
  RecordingSink sink;
  const api::RequestId id = submit(sink);
  rank_.report(
      {.accepting = false,
       .running = 2,
       .pages_total = 64,
       .pages_held = 9,
       .tokens_outstanding = 1}
  );

  EXPECT_TRUE(rank_.status().accepting);
  EXPECT_EQ(rank_.status().running, 2);
  EXPECT_EQ(rank_.status().pages_held, 9);
  EXPECT_EQ(rank_.status().tokens_outstanding, 13);
  ASSERT_TRUE(finish(rank_, id).ok());
  EXPECT_EQ(rank_.status().tokens_outstanding, 0);
}

TEST_F(RemoteRankOf, EventsOfUnknownRequestsAreDropped) {
  RecordingSink sink;
  const api::RequestId id = submit(sink);
  const api::RequestId unknown(id.value() + 8);

  EXPECT_TRUE(rank_.handle(RankMessage::Token, api::encode(token(unknown, 7))).ok());
  EXPECT_TRUE(finish(rank_, unknown).ok());
  EXPECT_TRUE(finish(rank_, id).ok());
  EXPECT_TRUE(finish(rank_, id).ok());

  EXPECT_TRUE((sink.wait(), sink.tokens().empty()));
}

TEST_F(RemoteRankOf, GarbageAndForeignKindsAreCorrupt) {
  RecordingSink sink;
  const api::RequestId id = submit(sink);
  const std::vector<std::byte> garbage(5);
  const auto kind_of = [](const Result<void>& result) {
    return result.ok() ? ErrorKind::Internal : result.error().kind;
  };
  for (const auto kind : {RankMessage::Token, RankMessage::PromptToken, RankMessage::Finish}) {
    EXPECT_EQ(kind_of(rank_.handle(kind, garbage)), ErrorKind::Corrupt);
  }
  for (const auto kind :
       {RankMessage::Submit, RankMessage::Cancel, static_cast<RankMessage>(999)}) {
    const auto refused = rank_.handle(kind, api::encode(token(id, 7)));
    EXPECT_EQ(kind_of(refused), ErrorKind::Corrupt);
    EXPECT_THAT(refused.error().message, HasSubstr("none for node 0"));
  }
  rank_.fail("the test is over", api::FinishReason::Error);
  EXPECT_TRUE((sink.wait(), sink.tokens().empty()));
}

TEST_F(RemoteRankOf, TokensOutsideTheVocabularyAreCorrupt) {
  RecordingSink sink;
  const api::RequestId id = submit(sink);
  api::TokenEvent alternative = token(id, 7);
  alternative.top_count = 2;
  alternative.top[1].token = kVocabulary;
  for (const auto& event : {token(id, kVocabulary), alternative}) {
    for (const auto kind : {RankMessage::Token, RankMessage::PromptToken}) {
      const auto refused = rank_.handle(kind, api::encode(event));
      ASSERT_FALSE(refused.ok());
      EXPECT_EQ(refused.error().kind, ErrorKind::Corrupt);
      EXPECT_THAT(refused.error().message, HasSubstr("vocabulary of 100"));
    }
  }
  rank_.fail("the test is over", api::FinishReason::Error);
}

TEST_F(RemoteRankOf, ALostRankEndsItsRequestsWithTheReasonAndTakesNoMore) {
  RecordingSink sink;
  RecordingSink late;
  const api::RequestId id = submit(sink);

  rank_.fail("node 1 is gone", api::FinishReason::Error);
  rank_.fail("somebody says it again", api::FinishReason::Cancelled);

  EXPECT_EQ(sink.wait().reason, api::FinishReason::Error);
  EXPECT_EQ(sink.wait().request, id);
  EXPECT_EQ(sink.wait().message, "node 1 is gone");
  EXPECT_FALSE(rank_.status().accepting);
  EXPECT_EQ(rank_.status().tokens_outstanding, 0);
  const auto refused = rank_.submit(request(), late);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind, ErrorKind::Unavailable);
  EXPECT_THAT(refused.error().message, HasSubstr("rank 5: node 1 is gone"));
  EXPECT_TRUE(finish(rank_, id).ok());
}

TEST_F(RemoteRankOf, ItsEndCancelsWhatIsOpen) {
  RecordingSink sink;
  {
    RemoteRank rank(link_, options());
    ASSERT_TRUE(rank.submit(request(), sink).ok());
  }
  EXPECT_EQ(sink.wait().reason, api::FinishReason::Cancelled);
}

}  // namespace
}  // namespace pleiad::engine
