// Also tests: stub_model.cc, key_transfer.cc
#include "sim/worker.h"

#include <map>
#include <optional>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sim/stub_model.h"

namespace pleiad::sim {
namespace {

using std::chrono::milliseconds;

struct Heard {
  std::vector<TokenId> tokens;
  std::vector<std::int32_t> scored;
  std::optional<api::FinishEvent> finish;
  api::RequestId id;
};

class Ear final : public WorkerOutput {
 public:
  void on_prompt_token(StreamId stream, const api::TokenEvent& event) override {
    heard[stream].scored.push_back(event.position);
  }
  void on_token(StreamId stream, const api::TokenEvent& event) override {
    heard[stream].tokens.push_back(event.chosen.token);
    heard[stream].id = event.request;
  }
  void on_finish(StreamId stream, const api::FinishEvent& event) override {
    EXPECT_FALSE(heard[stream].finish.has_value());
    heard[stream].finish = event;
  }
  void on_poisoned(StreamId /*stream*/) override { poisoned = true; }
  void on_keys_wanted(StreamId /*stream*/, const KeyOrder& order) override {
    orders.push_back(order);
  }
  void on_keys_unwanted(StreamId /*stream*/) override { ++unwanted; }
  void on_keys(StreamId /*stream*/, const KeyRecord& record) override { records.push_back(record); }

  std::map<StreamId, Heard> heard;
  bool poisoned = false;
  std::vector<KeyOrder> orders;
  int unwanted = 0;
  std::vector<KeyRecord> records;
};

// The answer of the stub model to a prompt.
std::vector<TokenId> right_answer(std::vector<TokenId> prompt, std::size_t count) {
  const auto prompt_tokens = static_cast<std::int64_t>(prompt.size());
  std::vector<TokenId> out;
  while (out.size() < count) {
    out.push_back(stub_token(prompt, prompt_tokens));
    prompt.push_back(out.back());
  }
  return out;
}

class SimWorkerTest : public ::testing::Test {
 protected:
  SimWorkerTest()
      : worker_(
            timeline_,
            ear_,
            {.instance = "one",
             .dp_ranks = 2,
             .scheduler =
                 {.pages = 8, .running_max = 2, .waiting_max = 2, .sequence_tokens_max = 400},
             .cost = {.fixed = milliseconds(10)}}
        ) {}

  Result<void> submit(std::uint64_t stream, api::GenerationRequest request) {
    request.ignore_eos = true;
    return worker_.submit(StreamId(stream), request);
  }
  void run_for(Nanoseconds time) {
    const Nanoseconds end = timeline_.now() + time;
    while (timeline_.now() < end && timeline_.step()) {
    }
  }
  void run() { run_for(std::chrono::hours(1)); }
  Heard& heard(std::uint64_t stream) { return ear_.heard[StreamId(stream)]; }

  Timeline timeline_;
  Ear ear_;
  SimWorker worker_;
};

TEST_F(SimWorkerTest, GivesTheRightAnswerAndHoldsNothingAfterIt) {
  ASSERT_TRUE(submit(1, {.prompt = {1, 2, 3}, .max_tokens = 20}).ok());
  ASSERT_TRUE(submit(2, {.prompt = {4}, .max_tokens = 5, .dp_rank = 1}).ok());
  EXPECT_GT(worker_.report().ranks[0].tokens_outstanding, 0);
  run();

  EXPECT_EQ(heard(1).tokens, right_answer({1, 2, 3}, 20));
  EXPECT_EQ(heard(2).tokens, right_answer({4}, 5));
  EXPECT_EQ(heard(1).finish->reason, api::FinishReason::Length);
  EXPECT_EQ(worker_.open_requests(), 0U);
  EXPECT_EQ(worker_.pages_held(), 0);
}

TEST_F(SimWorkerTest, AResumedRequestGoesOnWhereItWas) {
  const auto whole = right_answer({1, 2, 3}, 20);
  std::vector<TokenId> prompt{1, 2, 3};
  prompt.insert(prompt.end(), whole.begin(), whole.begin() + 8);
  ASSERT_TRUE(submit(1, {.prompt = prompt, .max_tokens = 12, .resumed_tokens = 8}).ok());
  run();
  EXPECT_EQ(heard(1).tokens, std::vector<TokenId>(whole.begin() + 8, whole.end()));
}

TEST_F(SimWorkerTest, RefusesLikeAWorker) {
  EXPECT_EQ(submit(1, {.prompt = {1}, .max_tokens = 500}).error().kind, ErrorKind::InvalidInput);
  EXPECT_EQ(
      submit(1, {.prompt = {1}, .max_tokens = 5, .dp_rank = 2}).error().kind,
      ErrorKind::InvalidInput
  );
  for (std::uint64_t i = 0; i < 4; ++i) {
    ASSERT_TRUE(submit(i, {.prompt = {1}, .max_tokens = 50}).ok());
  }
  EXPECT_EQ(submit(9, {.prompt = {1}, .max_tokens = 5}).error().kind, ErrorKind::Exhausted);
  worker_.stop_accepting();
  EXPECT_EQ(submit(9, {.prompt = {1}, .max_tokens = 5}).error().kind, ErrorKind::Unavailable);
}

TEST_F(SimWorkerTest, EndsWhatItIsToldToEnd) {
  for (std::uint64_t i = 0; i < 4; ++i) {
    const auto rank = static_cast<std::int32_t>(i % 2);
    ASSERT_TRUE(submit(i, {.prompt = {1}, .max_tokens = 90, .dp_rank = rank}).ok());
  }
  run_for(milliseconds(100));
  worker_.hang_up(StreamId(0));
  worker_.finish_early(heard(2).id);
  worker_.lose_rank(1);
  run();
  EXPECT_EQ(heard(0).finish->reason, api::FinishReason::Cancelled);
  EXPECT_EQ(heard(1).finish->reason, api::FinishReason::Lost);
  EXPECT_EQ(heard(2).finish->reason, api::FinishReason::Stop);
  EXPECT_EQ(heard(3).finish->reason, api::FinishReason::Lost);
  EXPECT_EQ(worker_.pages_held(), 0);
}

TEST_F(SimWorkerTest, AFrozenWorkerGoesOnWhereItStood) {
  ASSERT_TRUE(submit(1, {.prompt = {1}, .max_tokens = 9}).ok());
  run_for(milliseconds(30));
  worker_.freeze();
  const std::size_t before = heard(1).tokens.size();
  run();
  EXPECT_EQ(heard(1).tokens.size(), before);
  worker_.go_on();
  run();
  EXPECT_EQ(heard(1).tokens, right_answer({1}, 9));
}

TEST_F(SimWorkerTest, ScoresAPromptOnceAndDiesOfAPoisonedOne) {
  ASSERT_TRUE(submit(1, {.prompt = {1, 2, 3}, .max_tokens = 0, .prompt_top_logprobs = 0}).ok());
  run();
  EXPECT_THAT(heard(1).scored, ::testing::ElementsAre(1, 2));
  EXPECT_FALSE(ear_.poisoned);
  ASSERT_TRUE(submit(2, {.prompt = {kPoison}, .max_tokens = 3}).ok());
  run();
  EXPECT_TRUE(ear_.poisoned);
  EXPECT_TRUE(heard(2).tokens.empty());
}

// A prompt that one worker computes and another goes on with.
class SimPairTest : public ::testing::Test {
 protected:
  static SimWorker::Options options(api::Role role) {
    return {
        .instance = "one",
        .scheduler = {.pages = 8, .running_max = 2, .waiting_max = 2, .sequence_tokens_max = 400},
        .cost = {.fixed = milliseconds(10)},
        .role = role,
        .lease = std::chrono::seconds(1)};
  }
  void run() {
    while (timeline_.step()) {
    }
  }
  void order(std::vector<TokenId> prompt) {
    ASSERT_TRUE(decode_
                    .submit(
                        StreamId(1),
                        {.prompt = std::move(prompt),
                         .max_tokens = 6,
                         .ignore_eos = true,
                         .prefill_from = api::PrefillFrom{.url = "http://p"}}
                    )
                    .ok());
    ASSERT_EQ(ear_.orders.size(), 1U);
    ASSERT_TRUE(prefill_.prefill(StreamId(2), ear_.orders[0]).ok());
    run();
  }

  Timeline timeline_;
  Ear ear_;
  Ear prefill_ear_;
  SimWorker decode_{timeline_, ear_, options(api::Role::Decode)};
  SimWorker prefill_{timeline_, prefill_ear_, options(api::Role::Prefill)};
};

TEST_F(SimPairTest, AnAnswerGoesOnFromKeysThatCameInOrder) {
  const std::vector<TokenId> prompt(150, 7);
  ASSERT_TRUE(
      prefill_.prefill(
                  StreamId(9), {.transfer = 5, .prompt = {prompt.begin(), prompt.end() - 1}}
      ).ok()
  );
  while (prefill_ear_.records.empty() || prefill_ear_.records.back().kind != KeyRecord::Kind::Commit
  ) {
    ASSERT_TRUE(timeline_.step());
  }
  EXPECT_GT(prefill_.pages_held(), 0);
  prefill_.hang_up(StreamId(9));
  run();
  EXPECT_EQ(prefill_.pages_held(), 0);
  EXPECT_EQ(prefill_.expired(), 0);
  const auto records = std::exchange(prefill_ear_.records, {});
  ASSERT_TRUE(decode_
                  .submit(
                      StreamId(1),
                      {.prompt = prompt,
                       .max_tokens = 6,
                       .ignore_eos = true,
                       .prefill_from = api::PrefillFrom{.url = "http://p"}}
                  )
                  .ok());
  for (KeyRecord record : records) {
    decode_.take_keys(StreamId(1), record);  // of another transfer: dropped
    record.transfer = ear_.orders.at(0).transfer;
    decode_.take_keys(StreamId(1), record);
    if (record.kind == KeyRecord::Kind::Keys) decode_.take_keys(StreamId(1), record);  // twice
  }
  run();
  EXPECT_EQ(ear_.heard[StreamId(1)].tokens, right_answer(prompt, 6));
  EXPECT_EQ(ear_.unwanted, 1);
  EXPECT_EQ(decode_.pages_held(), 0);
}

TEST_F(SimPairTest, WhatIsLostEndsTheRequestAndAPromptNobodyTakesIsGivenUpInTime) {
  order(std::vector<TokenId>(100, 3));
  EXPECT_EQ(prefill_.expired(), 1);
  EXPECT_EQ(prefill_.pages_held(), 0);
  EXPECT_GT(decode_.pages_held(), 0);
  decode_.lose_keys(StreamId(1), /*broken=*/true);
  run();
  EXPECT_EQ(ear_.heard[StreamId(1)].finish->reason, api::FinishReason::Lost);
  EXPECT_TRUE(ear_.heard[StreamId(1)].finish->prefill_broken);
  EXPECT_EQ(decode_.pages_held(), 0);
}

TEST_F(SimPairTest, RolesTakeOnlyWhatTheyAreFor) {
  EXPECT_FALSE(decode_.prefill(StreamId(3), {.prompt = {1, 2}}).ok());
  const api::GenerationRequest taken{
      .prompt = {1, 2}, .prefill_from = api::PrefillFrom{.url = "http://p"}};
  EXPECT_FALSE(prefill_.submit(StreamId(3), taken).ok());
}

}  // namespace
}  // namespace pleiad::sim
