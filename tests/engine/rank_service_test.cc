#include "engine/rank_service.h"

#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "api/generation_wire.h"
#include "base/wire_bytes.h"
#include "engine/node_report.h"
#include "tests/engine/engine_harness.h"
#include "tests/engine/fake_link.h"

namespace pleiad::engine {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

LoadSettings two_ranks() {
  LoadSettings settings = fable_settings();
  settings.threads = 1;
  settings.max_num_seqs = 4;
  settings.layout = {.dp_size = 2, .ep_size = 2};
  return settings;
}

api::GenerationRequest story(std::int32_t max_tokens) {
  return {
      .prompt = {0, 3, 500, 600, 4},
      .max_tokens = max_tokens,
      .sampling = {.seed = 5},
      .ignore_eos = true,
      .top_logprobs = 2,
      .prompt_top_logprobs = 1,
  };
}

comm::ControlMessage message_of(RankMessage kind, std::vector<std::byte> bytes) {
  return {static_cast<std::uint32_t>(kind), std::move(bytes)};
}

comm::ControlMessage number_message(RankMessage kind, std::uint64_t number) {
  ByteWriter out;
  out.number(number);
  return message_of(kind, out.take());
}

// Both ranks of a group; rank 1 is also served over a link, as if it were on another node.
class RankServiceOf : public ::testing::Test {
 protected:
  RankServiceOf() {
    PairedLink::connect(near_, far_);
    near_.start({
        .on_message =
            [this](const comm::ControlMessage& message) {
              const auto kind = static_cast<RankMessage>(message.kind);
              if (kind == RankMessage::Status) {
                const auto bytes = std::span(message.bytes).subspan(sizeof(std::uint64_t));
                rank_.report(api::decode_status(bytes).value());
                return;
              }
              EXPECT_TRUE(rank_.handle(kind, message.bytes).ok());
            },
        .on_lost = [this](const Error& e) { rank_.fail(e.message, api::FinishReason::Lost); },
    });
    far_.start({
        .on_message = [this](const comm::ControlMessage& m
                      ) { EXPECT_TRUE(service_.handle(m).ok()); },
        .on_lost = {},
    });
  }
  ~RankServiceOf() override {
    service_.close();
    harness_.ranks->stop();
    far_.close();
    near_.close();
  }

  // Rank 1 alone, as another node would hold it.
  [[nodiscard]] std::span<const std::unique_ptr<Engine>> here() const {
    return harness_.ranks->engines().subspan(1);
  }
  std::string refusal_of(const comm::ControlMessage& message) {
    RecordingLink link;
    RankService service(link, here());
    const auto handled = service.handle(message);
    if (handled.ok()) return "accepted";
    EXPECT_EQ(handled.error().kind, ErrorKind::Corrupt);
    return handled.error().message;
  }

  EngineHarness harness_{two_ranks()};
  PairedLink near_{"node 1"};
  PairedLink far_{"node 0"};
  RankService service_{far_, here()};
  RemoteRank rank_{
      near_,
      {.rank = 1,
       .ranks = 2,
       .open_max = 8,
       .limits = harness_.engine->limits(),
       .validate = [this](const api::GenerationRequest& r) { return harness_.engine->check(r); }}};
};

TEST_F(RankServiceOf, ARequestOverTheLinkGivesWhatItGivesHere) {
  RecordingSink direct;
  RecordingSink remote;
  ASSERT_TRUE(harness_.engine->submit(story(12), direct).ok());
  const auto id = rank_.submit(story(12), remote);
  ASSERT_TRUE(id.ok());

  EXPECT_EQ(remote.wait().reason, api::FinishReason::Length);
  EXPECT_EQ(remote.wait().request, *id);
  EXPECT_EQ(remote.wait().prompt_tokens, 5);
  EXPECT_EQ(remote.wait().output_tokens, 12);
  EXPECT_EQ(direct.wait().reason, api::FinishReason::Length);
  EXPECT_EQ(remote.ids(), direct.ids());
  EXPECT_EQ(remote.logprobs(), direct.logprobs());
  ASSERT_EQ(remote.prompt_tokens().size(), 4U);
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(remote.prompt_tokens()[i].position, direct.prompt_tokens()[i].position);
    EXPECT_EQ(remote.prompt_tokens()[i].chosen.logprob, direct.prompt_tokens()[i].chosen.logprob);
  }
}

TEST_F(RankServiceOf, RequestsEndByCancellationOrEarly) {
  RecordingSink cancelled;
  RecordingSink early;
  const auto one = rank_.submit(story(400), cancelled).value();
  const auto two = rank_.submit(story(400), early).value();
  cancelled.wait_for_tokens(2);
  early.wait_for_tokens(2);

  rank_.cancel(one);
  rank_.finish_early(two);

  EXPECT_EQ(cancelled.wait().reason, api::FinishReason::Cancelled);
  EXPECT_EQ(early.wait().reason, api::FinishReason::Stop);
}

TEST_F(RankServiceOf, ALostLinkEndsWhatIsOpenWithItsReason) {
  RecordingSink sink;
  ASSERT_TRUE(rank_.submit(story(400), sink).ok());
  sink.wait_for_tokens(2);

  near_.lose(unavailable("node 1 is silent"));

  EXPECT_EQ(sink.wait().reason, api::FinishReason::Lost);
  EXPECT_THAT(sink.wait().message, HasSubstr("node 1 is silent"));
  RecordingSink late;
  EXPECT_EQ(rank_.submit(story(1), late).error().kind, ErrorKind::Unavailable);
}

TEST_F(RankServiceOf, ReportsWhatItsRanksHaveDone) {
  RecordingSink sink;
  ASSERT_TRUE(rank_.submit(story(12), sink).ok());
  sink.wait();
  RecordingLink link;
  RankService service(link, harness_.ranks->engines());
  harness_.metrics.counter("http_total", "Of the process", {{"route", "a"}}).add();

  service.report(harness_.metrics);

  const auto sent = link.take();
  ASSERT_EQ(sent.size(), 1U);
  ASSERT_EQ(sent[0].kind, static_cast<std::uint32_t>(RankMessage::Report));
  const auto report = decode_report(sent[0].bytes, {.ranks = {0, 2}, .expert_tokens = 5 * 32});
  ASSERT_TRUE(report.ok()) << report.error().message;
  EXPECT_GT(report->counts.ranks[0].ep.assignments + report->counts.ranks[1].ep.assignments, 0U);
  EXPECT_THAT(to_text(report->metrics), HasSubstr("engine=\"1\"} 12\n"));
  EXPECT_THAT(to_text(report->metrics), Not(HasSubstr("http_total")));
}

TEST_F(RankServiceOf, RefusedRequestsEndWithTheReason) {
  RecordingLink link;
  RankService service(link, here());
  api::GenerationRequest bad = story(5);
  bad.prompt = {1'000'000};
  const api::SubmitMessage message{.id = api::RequestId(3), .request = bad};

  ASSERT_TRUE(service.handle(message_of(RankMessage::Submit, api::encode(message))).ok());

  const auto sent = link.take();
  ASSERT_EQ(sent.size(), 2U);
  ASSERT_EQ(sent[0].kind, static_cast<std::uint32_t>(RankMessage::Finish));
  const auto finish = api::decode_finish(sent[0].bytes).value();
  EXPECT_EQ(finish.request, api::RequestId(3));
  EXPECT_EQ(finish.reason, api::FinishReason::Error);
  EXPECT_THAT(finish.message, HasSubstr("prompt token id 1000000"));
  // The rank's state follows every end.
  EXPECT_EQ(sent[1].kind, static_cast<std::uint32_t>(RankMessage::Status));
}

TEST_F(RankServiceOf, MessagesForRanksThatAreNotHereAreCorrupt) {
  const api::SubmitMessage message{.id = api::RequestId(4), .request = story(5)};

  EXPECT_THAT(
      refusal_of(message_of(RankMessage::Submit, api::encode(message))),
      HasSubstr("node 0 asks for rank 0, which takes no requests here")
  );
  EXPECT_THAT(refusal_of(number_message(RankMessage::Cancel, 4)), HasSubstr("rank 0"));
  EXPECT_THAT(refusal_of(number_message(RankMessage::ResetPrefixCache, 0)), HasSubstr("rank 0"));
  EXPECT_EQ(refusal_of(number_message(RankMessage::ResetPrefixCache, 1)), "accepted");
  EXPECT_EQ(refusal_of(number_message(RankMessage::Cancel, 5)), "accepted");
}

TEST_F(RankServiceOf, UnknownKindsAndGarbageAreCorrupt) {
  for (const auto kind : {RankMessage::Token, RankMessage::Status, static_cast<RankMessage>(999)}) {
    EXPECT_THAT(refusal_of(number_message(kind, 5)), HasSubstr("is none for a rank"));
  }
  const std::vector<std::byte> garbage(11, std::byte{0x5A});
  for (const auto kind : {RankMessage::Submit, RankMessage::Cancel, RankMessage::FinishEarly}) {
    EXPECT_NE(refusal_of(message_of(kind, garbage)), "accepted");
    EXPECT_NE(refusal_of(message_of(kind, {})), "accepted");
  }
}

TEST_F(RankServiceOf, AClosedServiceDropsMessagesAndNeedsNoEngines) {
  RecordingLink link;
  RankService service(link, here());
  service.close();
  service_.close();
  harness_.ranks->stop();
  const api::SubmitMessage message{.id = api::RequestId(3), .request = story(5)};

  EXPECT_TRUE(service.handle(message_of(RankMessage::Submit, api::encode(message))).ok());
  EXPECT_TRUE(service.handle(number_message(RankMessage::Cancel, 3)).ok());
  EXPECT_TRUE(link.take().empty());
}

TEST_F(RankServiceOf, RequestsThatTheNodesEndCutsShortAreLost) {
  RecordingSink sink;
  ASSERT_TRUE(rank_.submit(story(400), sink).ok());
  sink.wait_for_tokens(2);

  service_.close();
  harness_.ranks->stop();

  EXPECT_EQ(sink.wait().reason, api::FinishReason::Lost);
  EXPECT_THAT(sink.wait().message, HasSubstr("its node left the group"));
}

}  // namespace
}  // namespace pleiad::engine
