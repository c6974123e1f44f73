// Also tests: routed_request.cc
// Also tests: workers_json.cc
#include "router/router_core.h"

#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "router/workers_json.h"

namespace pleiad::router {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// What the core asked the network for.
class RecordingLink final : public WorkerLink {
 public:
  struct Sent {
    AttemptId attempt;
    std::string url;
    api::SubmitMessage message;
  };

  void send(AttemptId attempt, const Worker& worker, const api::SubmitMessage& message) override {
    sent.push_back({attempt, worker.url, message});
  }
  void hang_up(AttemptId attempt) override { hung_up.push_back(attempt); }
  void finish(AttemptId attempt, const Worker& /*worker*/, api::RequestId remote) override {
    finished.emplace_back(attempt, remote);
  }

  std::vector<Sent> sent;
  std::vector<AttemptId> hung_up;
  std::vector<std::pair<AttemptId, api::RequestId>> finished;
};

class Answer final : public api::GenerationSink {
 public:
  void on_placed(const api::PlacedEvent& event) override { place = event.place; }
  void on_prompt_token(const api::TokenEvent& event) override { scored.push_back(event.position); }
  void on_token(const api::TokenEvent& event) override { tokens.push_back(event.chosen.token); }
  void on_finish(const api::FinishEvent& event) override {
    EXPECT_FALSE(finish.has_value()) << "a request ends once";
    finish = event;
  }

  std::string place;
  std::vector<std::int32_t> scored;
  std::vector<TokenId> tokens;
  std::optional<api::FinishEvent> finish;
};

// A core over workers of one rank each, and the test as their network.
class RouterCoreTest : public ::testing::Test {
 protected:
  void start(int workers, const RouterCoreOptions& options = {}) {
    core_.emplace(clock_, link_, options);
    for (int i = 0; i < workers; ++i) {
      const WorkerIndex worker = core_->add_worker("http://w" + std::to_string(i)).value();
      core_->on_report(worker, report());
    }
  }
  static api::WorkerReport report(std::string instance = "first") {
    return {
        .instance = std::move(instance),
        .identity = {.version = "1", .model = "m", .page_tokens = 64},
        .limits = {.vocabulary = 100, .model_tokens_max = 4096},
        .accepting = true,
        .ranks = {{.accepting = true, .pages_total = 64}},
    };
  }
  RecordingLink::Sent& submit(std::uint64_t id, std::int32_t max_tokens = 4) {
    core_->submit(
        api::RequestId(id), {.prompt = {1, 2, 3}, .max_tokens = max_tokens}, answers_[id]
    );
    return link_.sent.back();
  }
  void token(AttemptId attempt, TokenId token, std::int32_t position) {
    core_->on_token(
        attempt, {.request = api::RequestId(7), .chosen = {token, 0.0F}, .position = position}
    );
  }
  // So many tokens from the request's first, as its worker would send them.
  void tokens(AttemptId attempt, std::int32_t count) {
    core_->on_connected(attempt);
    for (std::int32_t i = 0; i < count; ++i) {
      token(attempt, static_cast<TokenId>(10 + i), 3 + i);
    }
  }
  [[nodiscard]] std::int64_t held() const {
    std::int64_t sum = 0;
    for (UnitIndex unit = 0; unit < core_->table().loads().units(); ++unit) {
      sum += core_->table().loads().load(unit).tokens();
    }
    return sum;
  }

  FakeClock clock_;
  RecordingLink link_;
  Answer answers_[8];
  std::optional<RouterCore> core_;
};

// Workers 0 and 1 compute prompts, 2 and 3 go on with them.
class PairedCoreTest : public RouterCoreTest {
 protected:
  void start_pairs(RouterCoreOptions options = {}) {
    options.prefill_tokens_min = 2;
    core_.emplace(clock_, link_, options);
    for (int i = 0; i < 4; ++i) {
      const api::Role role = i < 2 ? api::Role::Prefill : api::Role::Decode;
      const auto worker = core_->add_worker("http://w" + std::to_string(i), role).value();
      core_->on_report(worker, report_of(role));
    }
  }
  static api::WorkerReport report_of(api::Role role) {
    api::WorkerReport out = report();
    out.role = role;
    return out;
  }
  static std::string prefill_of(const RecordingLink::Sent& sent) {
    const auto& from = sent.message.request.prefill_from;
    return from ? from->url : "";
  }
  static api::FinishEvent prefill_lost() {
    return {.reason = api::FinishReason::Lost, .message = "it broke", .prefill_lost = true};
  }
};

TEST_F(PairedCoreTest, ADecodeWorkerIsToldWhoComputesThePrompt) {
  start_pairs();
  const auto sent = submit(1);
  EXPECT_THAT(sent.url, testing::AnyOf("http://w2", "http://w3"));
  EXPECT_THAT(prefill_of(sent), testing::AnyOf("http://w0", "http://w1"));
  EXPECT_EQ(sent.message.request.prefill_from->dp_rank, 0);
  // Both are busy with it: the next pair is the other one.
  const auto other = submit(2);
  EXPECT_NE(other.url, sent.url);
  EXPECT_NE(prefill_of(other), prefill_of(sent));
  for (const AttemptId attempt : {sent.attempt, other.attempt}) {
    tokens(attempt, 4);
    core_->on_finish(attempt, {.reason = api::FinishReason::Length});
  }
  EXPECT_EQ(core_->counts().hand_overs, 2U);
  EXPECT_EQ(held(), 0);
}

TEST_F(PairedCoreTest, ShortAndScoredPromptsStayWithTheDecodeWorker) {
  start_pairs({});
  core_->submit(api::RequestId(1), {.prompt = {1}, .max_tokens = 1}, answers_[1]);
  EXPECT_EQ(prefill_of(link_.sent.back()), "");
  core_->submit(
      api::RequestId(2),
      {.prompt = {1, 2, 3}, .max_tokens = 1, .prompt_top_logprobs = 1},
      answers_[2]
  );
  EXPECT_EQ(prefill_of(link_.sent.back()), "");
  EXPECT_EQ(core_->counts().hand_overs, 0U);
}

TEST_F(PairedCoreTest, ALostPrefillIsTriedWithAnotherAndThenWithout) {
  start_pairs();
  const auto first = submit(1);
  core_->on_connected(first.attempt);
  core_->on_finish(first.attempt, prefill_lost());
  ASSERT_EQ(link_.sent.size(), 2U);
  const auto second = link_.sent[1];
  EXPECT_NE(prefill_of(second), "");
  EXPECT_NE(prefill_of(second), prefill_of(first));
  EXPECT_EQ(second.message.request.prefill_from->attempt, 1U);
  core_->on_finish(second.attempt, prefill_lost());
  ASSERT_EQ(link_.sent.size(), 3U);
  EXPECT_EQ(prefill_of(link_.sent[2]), "");
  tokens(link_.sent[2].attempt, 4);
  core_->on_finish(link_.sent[2].attempt, {.reason = api::FinishReason::Length});
  EXPECT_EQ(answers_[1].finish->reason, api::FinishReason::Length);
  EXPECT_EQ(core_->counts().prefill_losses, 2U);
  EXPECT_EQ(core_->counts().failed, 0U);
  EXPECT_EQ(held(), 0);
}

TEST_F(PairedCoreTest, APromptKillsNoMoreThanTwoWorkersOfAnyRole) {
  for (const bool both_prefill : {true, false}) {
    start_pairs();
    link_.sent.clear();
    const std::uint64_t id = both_prefill ? 1 : 2;
    const auto first = submit(id);
    core_->on_connected(first.attempt);
    api::FinishEvent broken = prefill_lost();
    broken.prefill_broken = true;
    core_->on_finish(first.attempt, broken);
    ASSERT_EQ(link_.sent.size(), 2U);
    const auto second = link_.sent[1];
    core_->on_connected(second.attempt);
    if (both_prefill) {
      core_->on_finish(second.attempt, broken);
    } else {
      core_->on_broken(second.attempt, "connection reset");
    }
    EXPECT_EQ(link_.sent.size(), 2U);
    ASSERT_TRUE(answers_[id].finish.has_value());
    EXPECT_EQ(answers_[id].finish->reason, api::FinishReason::Error);
    EXPECT_THAT(answers_[id].finish->message, HasSubstr("2 workers were lost"));
    EXPECT_EQ(held(), 0);
  }
}

TEST_F(PairedCoreTest, APrefillWorkerThatGoesDownTakesNoRequestWithIt) {
  start_pairs();
  const auto first = submit(1);
  const auto second = submit(2);
  tokens(second.attempt, 1);  // its prompt is where it belongs
  const WorkerIndex down = prefill_of(first) == "http://w0" ? 0 : 1;
  for (const WorkerIndex worker : {down, down == 0 ? 1U : 0U}) {
    for (int i = 0; i < 3; ++i)
      core_->on_report(worker, unavailable("no answer"));
  }
  ASSERT_GE(link_.sent.size(), 3U);
  EXPECT_EQ(link_.sent.back().message.id, api::RequestId(1));
  EXPECT_EQ(prefill_of(link_.sent.back()), "");
  EXPECT_FALSE(answers_[2].finish.has_value());
  EXPECT_EQ(core_->counts().replays, 0U);
}

TEST_F(PairedCoreTest, ADecodeWorkerThatGoesDownIsReplacedAndThePromptIsComputedAgain) {
  start_pairs();
  const auto first = submit(1);
  tokens(first.attempt, 2);
  core_->on_broken(first.attempt, "reset");
  const auto& second = link_.sent.back();
  EXPECT_NE(second.url, first.url);
  EXPECT_NE(prefill_of(second), "");
  EXPECT_EQ(second.message.request.resumed_tokens, 2);
}

TEST_F(PairedCoreTest, PrefillWorkersAloneAnswerNothing) {
  core_.emplace(clock_, link_, RouterCoreOptions{});
  const auto worker = core_->add_worker("http://w0", api::Role::Prefill).value();
  core_->on_report(worker, report_of(api::Role::Prefill));
  EXPECT_THAT(
      core_->summary().not_ready, HasSubstr("no worker is ready: http://w0 is for prompts only")
  );
}

TEST_F(PairedCoreTest, AWorkerOfAnotherRoleIsRefusedWithBoth) {
  start_pairs();
  core_->on_report(2, report_of(api::Role::Both));
  EXPECT_EQ(core_->table().workers()[2].state, WorkerState::Refused);
  EXPECT_THAT(
      core_->table().workers()[2].reason,
      HasSubstr("--disaggregation-mode decode is wanted, the worker's is both")
  );
  EXPECT_THAT(workers_json(core_->table()).dump(), HasSubstr("\"role\":\"prefill\""));
}

TEST_F(RouterCoreTest, ARequestIsSentOnceAndItsTokensComeThrough) {
  start(2);
  const AttemptId attempt = submit(1).attempt;
  tokens(attempt, 4);
  core_->on_finish(attempt, {.reason = api::FinishReason::Length, .cached_tokens = 2});

  EXPECT_EQ(link_.sent.size(), 1U);
  EXPECT_EQ(link_.sent[0].message.request.dp_rank, 0);
  EXPECT_THAT(answers_[1].tokens, ElementsAre(10, 11, 12, 13));
  EXPECT_EQ(answers_[1].finish->reason, api::FinishReason::Length);
  EXPECT_EQ(answers_[1].finish->request, api::RequestId(1));
  EXPECT_EQ(answers_[1].finish->prompt_tokens, 3);
  EXPECT_EQ(answers_[1].finish->output_tokens, 4);
  EXPECT_THAT(link_.hung_up, ElementsAre(attempt));
  EXPECT_EQ(core_->open_requests(), 0U);
  EXPECT_EQ(held(), 0);
}

TEST_F(RouterCoreTest, ABrokenAttemptGoesOnElsewhereWithItsTokensAsPrompt) {
  start(2);
  const auto first = submit(1);
  tokens(first.attempt, 2);
  core_->on_broken(first.attempt, "reset");

  ASSERT_EQ(link_.sent.size(), 2U);
  const auto& second = link_.sent[1];
  EXPECT_NE(second.url, first.url);
  EXPECT_THAT(second.message.request.prompt, ElementsAre(1, 2, 3, 10, 11));
  EXPECT_EQ(second.message.request.resumed_tokens, 2);
  EXPECT_EQ(second.message.request.max_tokens, 2);
  EXPECT_EQ(core_->counts().replays, 1U);
  // Its own output may be cached where it goes on: the client did not send that.
  core_->on_finish(second.attempt, {.reason = api::FinishReason::Stop, .cached_tokens = 5});
  EXPECT_EQ(answers_[1].finish->cached_tokens, 3);
}

TEST_F(RouterCoreTest, WhatIsToldOfAnAttemptThatIsOverChangesNothing) {
  start(2);
  const AttemptId first = submit(1).attempt;
  tokens(first, 2);
  core_->on_broken(first, "reset");
  token(first, 12, 5);
  core_->on_finish(first, {.reason = api::FinishReason::Length});
  core_->on_broken(first, "again");
  core_->on_refused(first, unavailable("late"));

  EXPECT_THAT(answers_[1].tokens, ElementsAre(10, 11));
  EXPECT_FALSE(answers_[1].finish.has_value());
  EXPECT_EQ(link_.sent.size(), 2U);
}

TEST_F(RouterCoreTest, ATokenThatIsNotTheNextOneBreaksTheAttempt) {
  start(2);
  const AttemptId first = submit(1).attempt;
  tokens(first, 2);
  token(first, 11, 4);  // again

  EXPECT_THAT(answers_[1].tokens, ElementsAre(10, 11));
  ASSERT_EQ(link_.sent.size(), 2U);
  const AttemptId second = link_.sent[1].attempt;
  token(second, 12, 5);
  token(second, 13, 6);
  token(second, 14, 7);  // one more than asked for
  EXPECT_THAT(answers_[1].tokens, ElementsAre(10, 11, 12, 13));
  EXPECT_EQ(answers_[1].finish->reason, api::FinishReason::Length);
}

TEST_F(RouterCoreTest, TwoLostWorkersEndARequest) {
  start(3);
  tokens(submit(1).attempt, 1);
  core_->on_broken(link_.sent[0].attempt, "reset");
  core_->on_connected(link_.sent[1].attempt);
  core_->on_broken(link_.sent[1].attempt, "reset");

  EXPECT_EQ(answers_[1].finish->reason, api::FinishReason::Error);
  EXPECT_THAT(answers_[1].finish->message, HasSubstr("2 workers were lost"));
  EXPECT_TRUE(answers_[1].finish->for_client);
  EXPECT_EQ(link_.sent.size(), 2U);
  EXPECT_EQ(core_->counts().failed, 1U);
}

TEST_F(RouterCoreTest, AWorkerThatCouldNotBeReachedIsNoDeath) {
  start(4);
  submit(1);
  for (std::size_t i = 0; i < 3; ++i) {
    core_->on_broken(link_.sent[i].attempt, "connection refused");
  }
  EXPECT_EQ(link_.sent.size(), 4U);
  EXPECT_FALSE(answers_[1].finish.has_value());
}

TEST_F(RouterCoreTest, AFullUnitIsLeftAloneUntilItsWorkerReports) {
  start(2);
  const auto first = submit(1);
  core_->on_refused(first.attempt, exhausted("full"));
  EXPECT_THAT(core_->summary().not_ready, IsEmpty());
  ASSERT_EQ(link_.sent.size(), 2U);
  EXPECT_NE(link_.sent[1].url, first.url);
  EXPECT_NE(submit(2).url, first.url);
  EXPECT_NE(submit(3).url, first.url);
  core_->on_report(*core_->table().find(first.url), report());
  EXPECT_EQ(submit(4).url, first.url);
}

TEST_F(RouterCoreTest, ARequestThatNobodyHasRoomForWaitsSoLongAndNoLonger) {
  RouterCoreOptions options;
  options.wait_max = std::chrono::seconds(2);
  start(1, options);
  submit(1);
  for (int i = 0; i < 4; ++i) {
    core_->on_refused(link_.sent.back().attempt, exhausted("full"));
    EXPECT_EQ(core_->waiting_requests(), 1U);
    EXPECT_EQ(core_->summary().not_ready, "no worker is ready: http://w0 is refusing requests");
    clock_.advance(std::chrono::milliseconds(600));
    core_->on_report(0, report());
  }
  EXPECT_EQ(link_.sent.size(), 4U);
  ASSERT_TRUE(answers_[1].finish.has_value());
  EXPECT_EQ(answers_[1].finish->reason, api::FinishReason::Lost);
}

TEST_F(RouterCoreTest, WithoutAWorkerARequestWaitsUntilTimeIsUp) {
  start(1);
  submit(1);
  ASSERT_TRUE(core_->remove_worker("http://w0").ok());
  EXPECT_EQ(core_->waiting_requests(), 1U);
  clock_.advance(std::chrono::seconds(30));
  core_->on_tick();
  EXPECT_FALSE(answers_[1].finish.has_value());
  clock_.advance(std::chrono::seconds(1));
  core_->on_tick();
  EXPECT_EQ(answers_[1].finish->reason, api::FinishReason::Lost);
  EXPECT_EQ(core_->waiting_requests(), 0U);
}

TEST_F(RouterCoreTest, ARestartedWorkerHasLostWhatRanThere) {
  start(1);
  const AttemptId first = submit(1).attempt;
  tokens(first, 2);
  core_->on_report(0, report("second"));

  ASSERT_EQ(link_.sent.size(), 2U);
  EXPECT_THAT(link_.hung_up, ElementsAre(first));
  EXPECT_EQ(link_.sent[1].message.request.resumed_tokens, 2);
}

TEST_F(RouterCoreTest, ASilentWorkersRequestsMoveOn) {
  start(2);
  const auto first = submit(1);
  const WorkerIndex silent = *core_->table().find(first.url);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(link_.sent.size(), 1U);
    core_->on_report(silent, error(ErrorKind::Timeout, "no answer"));
  }
  EXPECT_EQ(link_.sent.size(), 2U);
  EXPECT_EQ(core_->summary().ready_workers, 1);
}

TEST_F(RouterCoreTest, CancellingEndsARequestWhereverItIs) {
  start(1);
  const AttemptId attempt = submit(1).attempt;
  ASSERT_TRUE(core_->drain_worker("http://w0", true).ok());
  core_->submit(api::RequestId(2), {.prompt = {1}, .max_tokens = 1}, answers_[2]);
  EXPECT_EQ(core_->waiting_requests(), 1U);
  core_->cancel(api::RequestId(1));
  core_->cancel(api::RequestId(2));
  core_->cancel(api::RequestId(3));

  EXPECT_EQ(answers_[1].finish->reason, api::FinishReason::Cancelled);
  EXPECT_EQ(answers_[2].finish->reason, api::FinishReason::Cancelled);
  EXPECT_THAT(link_.hung_up, ElementsAre(attempt));
  EXPECT_EQ(core_->waiting_requests(), 0U);
}

TEST_F(RouterCoreTest, FinishingEarlyTellsAWorkerThatWorksAtIt) {
  start(1);
  const AttemptId attempt = submit(1).attempt;
  tokens(attempt, 1);
  core_->finish_early(api::RequestId(1));
  EXPECT_THAT(link_.finished, ElementsAre(std::pair(attempt, api::RequestId(7))));
  EXPECT_FALSE(answers_[1].finish.has_value());
  core_->on_broken(attempt, "reset");
  EXPECT_EQ(answers_[1].finish->reason, api::FinishReason::Stop);

  submit(2);
  core_->on_report(0, report());
  core_->finish_early(api::RequestId(2));
  EXPECT_EQ(answers_[2].finish->reason, api::FinishReason::Stop);
  EXPECT_EQ(link_.finished.size(), 1U);
}

TEST_F(RouterCoreTest, AllTokensWithoutAnEndAreAWholeAnswer) {
  start(2);
  const AttemptId attempt = submit(1).attempt;
  tokens(attempt, 4);
  core_->on_broken(attempt, "reset");
  EXPECT_EQ(answers_[1].finish->reason, api::FinishReason::Length);
  EXPECT_EQ(link_.sent.size(), 1U);
}

TEST_F(RouterCoreTest, RequestsOfOneSessionStayTogetherAndTheirPlaceIsTold) {
  start(4);
  for (std::uint64_t id = 1; id < 6; ++id) {
    core_->submit(
        api::RequestId(id), {.prompt = {1, 2, 3}, .max_tokens = 4, .session = "s"}, answers_[id]
    );
    EXPECT_EQ(link_.sent.back().url, link_.sent.front().url);
    EXPECT_EQ(answers_[id].place, link_.sent.front().url + ";dp_rank=0");
  }
  EXPECT_EQ(core_->counts().choices[static_cast<std::size_t>(ChoiceReason::Session)], 5U);
}

TEST_F(RouterCoreTest, ASessionIsNeverSentToAnOverloadedWorker) {
  RouterCoreOptions options;
  options.policy.balance_tokens = 10;
  start(2, options);
  std::set<std::string> urls;
  for (std::uint64_t id = 1; id < 7; ++id) {
    core_->submit(
        api::RequestId(id), {.prompt = {1, 2, 3}, .max_tokens = 40, .session = "s"}, answers_[id]
    );
    urls.insert(link_.sent.back().url);
  }
  EXPECT_EQ(urls.size(), 2U);
}

TEST_F(RouterCoreTest, AnotherPolicyIsInForceAtTheNextChoice) {
  start(3);
  core_->set_policy({.kind = PolicyKind::RoundRobin}, 1);
  submit(1);
  submit(2);
  EXPECT_EQ(core_->counts().choices[static_cast<std::size_t>(ChoiceReason::Turn)], 2U);
}

TEST_F(RouterCoreTest, WhatIsOpenAtTheEndIsCancelled) {
  start(1);
  submit(1);
  core_.reset();
  EXPECT_EQ(answers_[1].finish->reason, api::FinishReason::Cancelled);
}

TEST_F(RouterCoreTest, TellsWhyNothingIsTakenAndWhatWorkersDo) {
  start(0);
  EXPECT_EQ(core_->summary().not_ready, "there is no worker");
  ASSERT_TRUE(core_->add_worker("http://w0").ok());
  core_->on_report(0, unavailable("connection refused"));
  EXPECT_EQ(core_->summary().not_ready, "no worker is ready: http://w0 is joining");
  for (int i = 1; i < 6; ++i) {
    ASSERT_TRUE(core_->add_worker("http://w" + std::to_string(i)).ok());
  }
  EXPECT_THAT(core_->summary().not_ready, HasSubstr("and 2 more are not"));
  core_->on_report(0, report());
  EXPECT_THAT(core_->summary().not_ready, IsEmpty());
  submit(1);
  const std::string text = workers_json(core_->table()).dump();
  EXPECT_THAT(text, HasSubstr(R"("state":"ready")"));
  EXPECT_THAT(text, HasSubstr(R"("held_tokens":7)"));
}

}  // namespace
}  // namespace pleiad::router
