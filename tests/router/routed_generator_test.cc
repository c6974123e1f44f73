// Also tests: http_worker_link.cc
// Also tests: worker_watch.cc
#include "router/routed_generator.h"

#include <algorithm>
#include <condition_variable>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"
#include "tests/router/fake_worker.h"

namespace pleiad::router {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

using End = FakeAnswer::End;

// What came of one request.
class Answer final : public api::GenerationSink {
 public:
  void on_prompt_token(const api::TokenEvent& /*event*/) override {}
  void on_token(const api::TokenEvent& event) override {
    const std::scoped_lock lock(mutex_);
    tokens_.push_back(event.chosen.token);
    positions_.push_back(event.position);
    changed_.notify_all();
  }
  void on_finish(const api::FinishEvent& event) override {
    const std::scoped_lock lock(mutex_);
    finish_ = event;
    changed_.notify_all();
  }

  // Blocks until it is over, a minute at most.
  const api::FinishEvent& wait() {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, std::chrono::minutes(1), [&] {
      return finish_.has_value();
    }));
    return *finish_;
  }
  void wait_for_tokens(std::size_t count) {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, std::chrono::minutes(1), [&] {
      return tokens_.size() >= count;
    }));
  }
  // REQUIRES: wait() returned.
  [[nodiscard]] const std::vector<TokenId>& tokens() const { return tokens_; }
  [[nodiscard]] const std::vector<std::int32_t>& positions() const { return positions_; }

 private:
  std::mutex mutex_;  // guards all below
  std::condition_variable changed_;
  std::vector<TokenId> tokens_;
  std::vector<std::int32_t> positions_;
  std::optional<api::FinishEvent> finish_;
};

RouterOptions quick_options() {
  return {
      .secret = std::string(FakeWorker::kSecret),
      .core = {.wait_max = std::chrono::seconds(5)},
      .report_interval = std::chrono::milliseconds(5),
      .report_timeout = std::chrono::milliseconds(500),
  };
}

// A router over fake workers, with its loop on a thread.
class Router {
 public:
  explicit Router(
      const std::vector<const FakeWorker*>& workers,
      RouterOptions options = quick_options()
  )
      : generator_(std::make_unique<RoutedGenerator>(loop_, metrics_, std::move(options))) {
    for (const FakeWorker* worker : workers)
      EXPECT_TRUE(generator_->add_worker(worker->url(), std::nullopt).ok());
    thread_ = std::thread([this] { loop_.run(); });
  }
  ~Router() {
    loop_.stop();
    thread_.join();
    generator_.reset();
  }

  // Blocks until so many workers are ready, a minute at most.
  Router& wait_until_ready(int workers) {
    const std::string wanted = "pleiad_router_ready_workers " + std::to_string(workers) + "\n";
    EXPECT_TRUE(eventually([&] { return metrics_.render().find(wanted) != std::string::npos; }));
    return *this;
  }
  // Whether it came true within a minute.
  static bool eventually(const std::function<bool()>& condition) {
    const SystemClock clock;
    const Nanoseconds end = clock.now() + std::chrono::minutes(1);
    while (!condition()) {
      if (clock.now() > end) return false;
      std::this_thread::yield();
    }
    return true;
  }
  // Runs on the loop's thread, and waits for it.
  void on_loop(const std::function<void(RoutedGenerator&)>& task) {
    std::promise<void> done;
    loop_.post([&] {
      task(*generator_);
      done.set_value();
    });
    done.get_future().wait();
  }

  RoutedGenerator& operator*() { return *generator_; }
  RoutedGenerator* operator->() { return generator_.get(); }

 private:
  net::EventLoop loop_;
  MetricsRegistry metrics_;
  std::unique_ptr<RoutedGenerator> generator_;
  std::thread thread_;
};

FakeWorker::Script always(End end, std::int32_t tokens = INT32_MAX) {
  return [=](const api::GenerationRequest&) { return FakeAnswer{end, tokens}; };
}

api::GenerationRequest request_of(TokenId seed, std::int32_t max_tokens) {
  return {.prompt = {seed, 2, 3}, .max_tokens = max_tokens};
}

TEST(RoutedGenerator, AnAnswerComesThroughAsTheWorkerGaveIt) {
  FakeWorker worker(always(End::Finish));
  Router router({&worker});
  router.wait_until_ready(1);
  Answer answer;
  const auto id = router->submit(request_of(1, 5), answer);

  ASSERT_TRUE(id.ok()) << id.error().message;
  EXPECT_EQ(answer.wait().reason, api::FinishReason::Length);
  EXPECT_EQ(answer.wait().request, *id);
  EXPECT_EQ(answer.tokens(), FakeWorker::answer({1, 2, 3}, 5));
  EXPECT_THAT(answer.positions(), ElementsAre(3, 4, 5, 6, 7));
  EXPECT_EQ(answer.wait().prompt_tokens, 3);
  EXPECT_EQ(answer.wait().output_tokens, 5);
  EXPECT_EQ(answer.wait().cached_tokens, 2);
  EXPECT_EQ(router->limits().model_tokens_max, 4096);
  EXPECT_TRUE(router->status().accepting);
}

TEST(RoutedGenerator, ConnectionsAreKeptAfterWholeAnswers) {
  FakeWorker worker(always(End::Finish));
  Router router({&worker});
  router.wait_until_ready(1);
  for (TokenId i = 0; i < 20; ++i) {
    Answer answer;
    ASSERT_TRUE(router->submit(request_of(i, 3), answer).ok());
    EXPECT_EQ(answer.wait().reason, api::FinishReason::Length);
  }
  // One for reports, one for requests, and one where an answer's end was told before HTTP's own.
  EXPECT_LE(worker.connections(), 3U);
}

TEST(RoutedGenerator, ARequestGoesOnWhereItsWorkerIsLost) {
  for (const End end : {End::Break, End::Lost, End::Leaving}) {
    FakeWorker dying(always(end, 4));
    FakeWorker healthy(always(End::Finish));
    for (int i = 0; i < 4; ++i) {
      Router router({&dying, &healthy});
      router.wait_until_ready(2);
      Answer first;
      Answer second;
      ASSERT_TRUE(router->submit(request_of(1, 10), first).ok());
      ASSERT_TRUE(router->submit(request_of(2, 10), second).ok());

      EXPECT_EQ(first.wait().reason, api::FinishReason::Length) << first.wait().message;
      EXPECT_EQ(second.wait().reason, api::FinishReason::Length) << second.wait().message;
      EXPECT_EQ(first.tokens(), FakeWorker::answer({1, 2, 3}, 10));
      EXPECT_EQ(second.tokens(), FakeWorker::answer({2, 2, 3}, 10));
      EXPECT_EQ(first.wait().prompt_tokens, 3);
      EXPECT_EQ(first.wait().output_tokens, 10);
    }
    ASSERT_FALSE(dying.requests().empty());
  }
}

TEST(RoutedGenerator, ARequestThatLosesTwoWorkersEndsWithAnError) {
  FakeWorker a(always(End::Break, 1));
  FakeWorker b(always(End::Break, 1));
  FakeWorker c(always(End::Break, 1));
  Router router({&a, &b, &c});
  router.wait_until_ready(3);
  Answer answer;
  ASSERT_TRUE(router->submit(request_of(1, 10), answer).ok());

  EXPECT_EQ(answer.wait().reason, api::FinishReason::Error);
  EXPECT_THAT(answer.wait().message, HasSubstr("2 workers were lost"));
  EXPECT_EQ(a.requests().size() + b.requests().size() + c.requests().size(), 2U);
}

TEST(RoutedGenerator, AFullWorkerPassesTheRequestOn) {
  FakeWorker full(always(End::Full));
  FakeWorker roomy(always(End::Finish));
  Router router({&full, &roomy});
  router.wait_until_ready(2);
  for (TokenId i = 0; i < 6; ++i) {
    Answer answer;
    ASSERT_TRUE(router->submit(request_of(i, 3), answer).ok());
    EXPECT_EQ(answer.wait().reason, api::FinishReason::Length);
    EXPECT_EQ(answer.tokens(), FakeWorker::answer({i, 2, 3}, 3));
  }
  EXPECT_FALSE(full.requests().empty());
}

TEST(RoutedGenerator, WhenAllAreFullARequestWaitsAndThenEndsAsLost) {
  FakeWorker full(always(End::Full));
  RouterOptions options = quick_options();
  options.core.wait_max = std::chrono::milliseconds(50);
  Router router({&full}, options);
  router.wait_until_ready(1);
  Answer answer;
  ASSERT_TRUE(router->submit(request_of(1, 3), answer).ok());
  // Once the worker is no more, nobody will have room.
  router.on_loop([&](RoutedGenerator& generator) {
    EXPECT_TRUE(generator.drain_worker(full.url(), true).ok());
  });

  EXPECT_EQ(answer.wait().reason, api::FinishReason::Lost);
}

TEST(RoutedGenerator, WhatTheWorkerRefusesIsAnErrorWithItsWords) {
  FakeWorker strict(always(End::Wrong));
  Router router({&strict});
  router.wait_until_ready(1);
  Answer answer;
  ASSERT_TRUE(router->submit(request_of(1, 3), answer).ok());

  EXPECT_EQ(answer.wait().reason, api::FinishReason::Error);
  EXPECT_EQ(answer.wait().message, "because of a test");
}

TEST(RoutedGenerator, RefusesAtOnceWhatCanNotBe) {
  RouterOptions options = quick_options();
  options.open_max = 1;
  FakeWorker worker(always(End::Silence, 0));
  Router router({&worker}, options);
  router.wait_until_ready(1);
  Answer answer;
  EXPECT_THAT(
      router->submit(request_of(1, 5000), answer).error().message,
      HasSubstr("exceeds the context of 4096 tokens")
  );
  EXPECT_EQ(router->submit({}, answer).error().kind, ErrorKind::InvalidInput);
  const auto id = router->submit(request_of(1, 5), answer);
  ASSERT_TRUE(id.ok());
  Answer other;
  EXPECT_EQ(router->submit(request_of(2, 5), other).error().kind, ErrorKind::Exhausted);
  router->cancel(*id);
  EXPECT_EQ(answer.wait().reason, api::FinishReason::Cancelled);
  router->stop_accepting();
  EXPECT_EQ(router->submit(request_of(2, 5), other).error().kind, ErrorKind::Unavailable);
}

TEST(RoutedGenerator, WithoutAWorkerNothingIsTakenAndTheReasonIsTold) {
  Router none({});
  Answer answer;
  EXPECT_EQ(none->submit(request_of(1, 5), answer).error().kind, ErrorKind::Unavailable);
  FakeWorker worker(always(End::Finish));
  RouterOptions options = quick_options();
  options.secret = "another";
  Router stranger({&worker}, options);
  EXPECT_TRUE(Router::eventually([&] {
    const auto taken = stranger->submit(request_of(1, 5), answer);
    return taken.error().message.find("another secret") != std::string::npos;
  }));
}

TEST(RoutedGenerator, CancellingHangsUpAndFinishingEarlyTellsTheWorker) {
  FakeWorker worker(always(End::Silence, 2));
  Router router({&worker});
  router.wait_until_ready(1);
  Answer cancelled;
  const auto id = router->submit(request_of(1, 9), cancelled);
  ASSERT_TRUE(id.ok());
  cancelled.wait_for_tokens(2);
  router->cancel(*id);
  EXPECT_EQ(cancelled.wait().reason, api::FinishReason::Cancelled);
  EXPECT_EQ(cancelled.wait().output_tokens, 2);
  EXPECT_TRUE(Router::eventually([&] { return worker.hung_up() == 1; }));

  Answer early;
  const auto other = router->submit(request_of(1, 9), early);
  ASSERT_TRUE(other.ok());
  early.wait_for_tokens(2);
  router->finish_early(*other);
  EXPECT_EQ(early.wait().reason, api::FinishReason::Stop);
  EXPECT_EQ(worker.finished_early(), 1);
}

TEST(RoutedGenerator, AFrozenWorkersRequestsMoveOn) {
  FakeWorker frozen(always(End::Silence, 3));
  RouterOptions options = quick_options();
  options.core.table.misses_max = 1;
  Router router({&frozen}, options);
  router.wait_until_ready(1);
  Answer answer;
  ASSERT_TRUE(router->submit(request_of(1, 8), answer).ok());
  answer.wait_for_tokens(3);
  FakeWorker healthy(always(End::Finish));
  router.on_loop([&](RoutedGenerator& generator) {
    EXPECT_TRUE(generator.add_worker(healthy.url(), std::nullopt).ok());
  });
  router.wait_until_ready(2);
  router.on_loop([&](RoutedGenerator& generator) {
    EXPECT_TRUE(generator.remove_worker(frozen.url()).ok());
  });

  EXPECT_EQ(answer.wait().reason, api::FinishReason::Length);
  EXPECT_EQ(answer.tokens(), FakeWorker::answer({1, 2, 3}, 8));
}

TEST(RoutedGenerator, AConnectionThatFellSilentIsGivenUpThoughItsWorkerReports) {
  FakeWorker silent(always(End::Silence, 3));
  RouterOptions options = quick_options();
  options.silence_max = std::chrono::milliseconds(50);
  Router router({&silent}, options);
  router.wait_until_ready(1);
  Answer answer;
  ASSERT_TRUE(router->submit(request_of(1, 8), answer).ok());
  answer.wait_for_tokens(3);
  FakeWorker healthy(always(End::Finish));
  router.on_loop([&](RoutedGenerator& generator) {
    EXPECT_TRUE(generator.drain_worker(silent.url(), true).ok());
    EXPECT_TRUE(generator.add_worker(healthy.url(), std::nullopt).ok());
  });

  EXPECT_EQ(answer.wait().reason, api::FinishReason::Length);
  EXPECT_EQ(answer.tokens(), FakeWorker::answer({1, 2, 3}, 8));
}

TEST(RoutedGenerator, AWorkerThatWasStartedAgainIsAskedOnceItHasReported) {
  FakeWorker worker(always(End::Finish));
  Router router({&worker});
  router.wait_until_ready(1);
  worker.set_report([](api::WorkerReport& report) { report.instance = "second"; });
  Answer answer;
  ASSERT_TRUE(router->submit(request_of(1, 3), answer).ok());

  EXPECT_EQ(answer.wait().reason, api::FinishReason::Length);
  EXPECT_EQ(answer.tokens(), FakeWorker::answer({1, 2, 3}, 3));
}

TEST(RoutedGenerator, AWorkerOfAnotherModelIsRefusedWithBothValues) {
  FakeWorker worker(always(End::Finish));
  FakeWorker other(always(End::Finish));
  other.set_report([](api::WorkerReport& report) { report.identity.digest = "e"; });
  Router router({&worker});
  router.wait_until_ready(1);
  router.on_loop([&](RoutedGenerator& generator) {
    EXPECT_TRUE(generator.add_worker(other.url(), std::nullopt).ok());
    EXPECT_FALSE(generator.add_worker(other.url(), std::nullopt).ok());
    EXPECT_FALSE(generator.add_worker("nonsense", std::nullopt).ok());
  });
  EXPECT_TRUE(Router::eventually([&] {
    std::string text;
    router.on_loop([&](RoutedGenerator& generator) { text = generator.workers_json().dump(); });
    return text.find("digest d here, e there") != std::string::npos;
  }));
}

// Many requests over workers that break in every way at random: each answer is exact, or the
// request has lost as many workers as it may; and nothing is left behind.
TEST(RoutedGenerator, RandomFaultsNeverChangeAToken) {
  const std::uint64_t seed = entropy_seed();
  SCOPED_TRACE("seed " + std::to_string(seed));
  Random random(seed);
  const auto faulty = [&](std::uint64_t worker_seed) {
    // owner: the script, called on one loop's thread
    return [faults = std::make_shared<Random>(worker_seed)](const api::GenerationRequest&) {
      constexpr End kEnds[] = {End::Break, End::Lost, End::Leaving, End::Full};
      FakeAnswer answer;
      if (faults->below(4) == 0) answer.end = kEnds[faults->below(4)];
      if (answer.end != End::Finish) answer.tokens = static_cast<std::int32_t>(faults->below(12));
      return answer;
    };
  };
  FakeWorker a(faulty(random.next()), 2);
  FakeWorker b(faulty(random.next()));
  FakeWorker c(faulty(random.next()), 3);
  Router router({&a, &b, &c});
  router.wait_until_ready(3);
  int failed = 0;
  for (int round = 0; round < 20; ++round) {
    std::vector<std::unique_ptr<Answer>> answers;
    std::vector<api::GenerationRequest> requests;
    std::vector<bool> taken;
    for (int i = 0; i < 10; ++i) {
      requests.push_back(request_of(
          static_cast<TokenId>(random.below(1000)), static_cast<std::int32_t>(1 + random.below(20))
      ));
      answers.push_back(std::make_unique<Answer>());
      taken.push_back(router->submit(requests.back(), *answers.back()).ok());
    }
    for (std::size_t i = 0; i < answers.size(); ++i) {
      if (!taken[i]) continue;  // every worker was down just then
      const auto& finish = answers[i]->wait();
      const auto whole = FakeWorker::answer(requests[i].prompt, requests[i].max_tokens);
      const auto& got = answers[i]->tokens();
      ASSERT_TRUE(std::equal(got.begin(), got.end(), whole.begin())) << "round " << round;
      if (finish.reason == api::FinishReason::Length) {
        ASSERT_EQ(got.size(), whole.size());
      } else {
        ASSERT_EQ(finish.reason, api::FinishReason::Error);
        ASSERT_THAT(finish.message, HasSubstr("workers were lost"));
        ++failed;
      }
    }
  }
  EXPECT_LT(failed, 60);
  router.on_loop([](RoutedGenerator& generator) {
    for (UnitIndex unit = 0; unit < generator.table().loads().units(); ++unit) {
      EXPECT_EQ(generator.table().loads().load(unit).requests, 0);
      EXPECT_EQ(generator.table().loads().load(unit).held, 0);
    }
  });
}

}  // namespace
}  // namespace pleiad::router
