// The service behind a gate: who is let in, what is told, and what is left behind.
#include <algorithm>
#include <functional>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "api/admission.h"
#include "tests/server/live_service.h"

namespace pleiad::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

// Keeps whoever enters until it is told what to say.
class FakeGate final : public api::AdmissionGate {
 public:
  api::AdmissionTicket enter(
      const api::Arrival& arrival,
      std::function<void(const api::AdmissionVerdict&)> tell
  ) override {
    const std::scoped_lock lock(mutex_);
    arrivals_.push_back(arrival);
    const api::AdmissionTicket ticket(arrivals_.size());
    if (at_once_) {
      tell(*at_once_);
    } else {
      waiting_.emplace_back(ticket, std::move(tell));
    }
    return ticket;
  }
  void leave(api::AdmissionTicket ticket, std::int64_t tokens) override {
    const std::scoped_lock lock(mutex_);
    left_.emplace_back(ticket.value(), tokens);
    std::erase_if(waiting_, [ticket](const auto& entry) { return entry.first == ticket; });
  }

  // Said inside enter() from now on.
  void say_at_once(api::AdmissionVerdict verdict) { at_once_ = std::move(verdict); }
  // To all that wait. Loop thread.
  void say(const api::AdmissionVerdict& verdict) {
    decltype(waiting_) waiting;
    {
      const std::scoped_lock lock(mutex_);
      waiting.swap(waiting_);
    }
    for (const auto& [ticket, tell] : waiting) {
      tell(verdict);
    }
  }
  std::vector<api::Arrival> arrivals() const {
    const std::scoped_lock lock(mutex_);
    return arrivals_;
  }
  std::vector<std::pair<std::uint64_t, std::int64_t>> left() const {
    const std::scoped_lock lock(mutex_);
    return left_;
  }
  std::size_t waiting() const {
    const std::scoped_lock lock(mutex_);
    return waiting_.size();
  }

 private:
  mutable std::mutex mutex_;  // guards everything below
  std::vector<api::Arrival> arrivals_;
  std::vector<std::pair<std::uint64_t, std::int64_t>> left_;
  std::vector<std::pair<api::AdmissionTicket, std::function<void(const api::AdmissionVerdict&)>>>
      waiting_;
  std::optional<api::AdmissionVerdict> at_once_;
};

api::AdmissionRefusal over_limit() {
  return {
      .reason = api::RefusalReason::RequestsPerMinute,
      .message = "too many",
      .retry_after = std::chrono::seconds(7),
      .rates = {
          .requests =
              api::RateState{.limit = 2, .remaining = 0, .whole_in = std::chrono::minutes(1)},
          .tokens = std::nullopt}};
}

net::HttpClientRequest request(std::string body, net::HttpHeaders headers = {}) {
  headers.add("Content-Type", "application/json");
  return {.method = "POST", .headers = std::move(headers), .body = std::move(body)};
}

TEST(GatedService, TellsTheGateWhoAsksForWhat) {
  FakeGate gate;
  gate.say_at_once(api::AdmissionGrant{.priority_class = "batch", .priority = 5, .rates = {}});
  ServiceOptions options = default_service_options();
  options.api_keys = {"sk-one", "sk-two"};
  LiveService service(LiveService::says("ok"), options, true, &gate);

  const auto answer = *service.fetch(
      request(
          prompt_body("[[5, 6, 7], [8]]", R"("max_tokens": 4, "n": 2, "user": "u", "priority": 3)"),
          {{"Authorization", "Bearer sk-two"},
           {"x-priority", "batch"},
           {"x-queue-timeout-ms", "40"}}
      ),
      kCompletions
  );

  EXPECT_EQ(answer.status, 200);
  const api::Arrival arrival = gate.arrivals().at(0);
  EXPECT_EQ(arrival.key, "api-key-2");
  EXPECT_EQ(arrival.priority_class, "batch");
  EXPECT_EQ(arrival.priority, 3);
  EXPECT_EQ(arrival.patience, std::chrono::milliseconds(40));
  EXPECT_EQ(arrival.prompt_tokens, 4);
  EXPECT_EQ(arrival.output_tokens_max, 16);
  EXPECT_TRUE(arrival.output_bounded);
  const auto sent = service.generator().requests().at(0);
  EXPECT_EQ(sent.priority, 5) << "the class's";
  EXPECT_EQ(sent.session, "api-key-2\nu");
  service.wait_until_idle();
  const auto output = static_cast<std::int64_t>(4 * encode("ok").size());
  EXPECT_THAT(gate.left(), ElementsAre(std::pair(std::uint64_t{1}, 4 + output)));
}

TEST(GatedService, AChatWithoutABoundSaysSo) {
  FakeGate gate;
  gate.say_at_once(api::AdmissionGrant{});
  LiveService service(LiveService::says("ok"), default_service_options(), true, &gate);

  EXPECT_EQ(service.post(kChat, chat_body()).status, 200);
  EXPECT_EQ(service.post(kChat, chat_body(R"("max_tokens": 3)")).status, 200);

  EXPECT_FALSE(gate.arrivals().at(0).output_bounded);
  EXPECT_FALSE(gate.arrivals().at(0).priority.has_value());
  EXPECT_TRUE(gate.arrivals().at(1).output_bounded);
}

TEST(GatedService, ARefusalIsAnsweredWithItsTimeAndLimits) {
  FakeGate gate;
  gate.say_at_once(over_limit());
  LiveService service(LiveService::says("ok"), default_service_options(), true, &gate);

  const auto answer = service.post(kChat, chat_body(R"("stream": true)"));

  EXPECT_EQ(answer.status, 429);
  EXPECT_EQ(answer.headers.find("Retry-After"), "7");
  EXPECT_EQ(answer.headers.find("x-ratelimit-limit-requests"), "2");
  EXPECT_EQ(answer.headers.find("x-ratelimit-reset-requests"), "1m0s");
  EXPECT_THAT(answer.body, HasSubstr("rate_limit_exceeded"));
  service.wait_until_idle();
  EXPECT_THAT(service.generator().requests(), IsEmpty());
  EXPECT_THAT(gate.left(), ElementsAre(std::pair(std::uint64_t{1}, std::int64_t{0})));
}

TEST(GatedService, WhoWaitsIsAnsweredWhenItIsTold) {
  for (const bool granted : {true, false}) {
    FakeGate gate;
    LiveService service(LiveService::says("ok"), default_service_options(), true, &gate);
    auto client = service.connect();
    client.send(LiveService::wire(kCompletions, prompt_body("[5]", R"("max_tokens": 1)")));
    while (gate.waiting() == 0)
      std::this_thread::yield();
    EXPECT_THAT(service.generator().requests(), IsEmpty());

    service.on_loop([&] {
      gate.say(
          granted ? api::AdmissionVerdict(api::AdmissionGrant{})
                  : api::AdmissionVerdict(over_limit())
      );
    });

    EXPECT_THAT(client.read_until("\r\n"), HasSubstr(granted ? "200" : "429"));
    service.wait_until_idle();
    EXPECT_EQ(gate.left().size(), 1U);
  }
}

TEST(GatedService, WhoGoesAwayWhileItWaitsLeavesTheGate) {
  FakeGate gate;
  LiveService service(LiveService::says("ok"), default_service_options(), true, &gate);
  {
    auto client = service.connect();
    client.send(LiveService::wire(kCompletions, prompt_body("[5]", R"("max_tokens": 1)")));
    while (gate.waiting() == 0)
      std::this_thread::yield();
  }
  service.wait_until_idle();

  EXPECT_THAT(gate.left(), ElementsAre(std::pair(std::uint64_t{1}, std::int64_t{0})));
  EXPECT_THAT(service.generator().requests(), IsEmpty());
  EXPECT_THAT(service.metrics(), HasSubstr("code=\"499\""));
}

TEST(GatedService, WhereARequestWasWorkedAtIsTold) {
  LiveService service([](const api::GenerationRequest&) {
    return Script{
        .tokens = encode("ok"),
        .cached_tokens = 64,
        .places = {"http://a;dp_rank=0", "http://b;dp_rank=1"}};
  });

  const auto whole = service.post(kChat, chat_body());
  EXPECT_EQ(whole.headers.find("x-served-by"), "http://a;dp_rank=0, http://b;dp_rank=1");
  EXPECT_EQ(whole.headers.find("x-cached-tokens"), "64");
  const auto stream = service.post(kChat, chat_body(R"("stream": true)"));
  EXPECT_EQ(stream.headers.find("x-served-by"), "http://a;dp_rank=0, http://b;dp_rank=1");
  EXPECT_FALSE(stream.headers.find("x-cached-tokens").has_value());
}

TEST(GatedService, SessionsAreOfTheHeaderOrTheBody) {
  LiveService service(LiveService::says("ok"));
  EXPECT_EQ(service.post(kChat, chat_body(R"("user": "u")")).status, 200);
  EXPECT_EQ(service.post(kChat, chat_body(R"("user": "u", "prompt_cache_key": "k")")).status, 200);
  EXPECT_EQ(
      service.fetch(request(chat_body(R"("user": "u")"), {{"x-session-id", "s"}}), kChat)->status,
      200
  );
  EXPECT_EQ(service.post(kChat, chat_body()).status, 200);

  const auto sent = service.generator().requests();
  EXPECT_EQ(sent.at(0).session, "\nu");
  EXPECT_EQ(sent.at(1).session, "\nk");
  EXPECT_EQ(sent.at(2).session, "\ns");
  EXPECT_EQ(sent.at(3).session, "");
  EXPECT_EQ(service.post(kChat, chat_body(R"("user": 5)")).status, 400);
  EXPECT_EQ(service.fetch(request(chat_body(), {{"x-session-id", ""}}), kChat)->status, 400);
}

TEST(GatedService, OtherKeysOpenFromNowOn) {
  LiveService service(LiveService::says("ok"));
  ApiKeys keys;
  keys.add("team", sha256("sk-new"));
  service.on_loop([&] { service.service().set_keys(keys); });

  EXPECT_EQ(service.get("/v1/models").status, 401);
  net::HttpClientRequest with_key{.headers = {{"Authorization", "Bearer sk-new"}}};
  EXPECT_EQ(service.fetch(std::move(with_key), "/v1/models")->status, 200);
}

TEST(GatedService, ReadinessSaysWhyNot) {
  ServiceOptions options = default_service_options();
  options.why_not_ready = [] { return std::string("there is no worker"); };
  LiveService service(LiveService::says("ok"), options);
  EXPECT_THAT(service.get("/ready").body, Not(HasSubstr("reason")));

  service.generator().set_status({.accepting = false});

  const auto answer = service.get("/ready");
  EXPECT_EQ(answer.status, 503);
  EXPECT_THAT(answer.body, HasSubstr(R"("reason":"there is no worker")"));
  EXPECT_EQ(service.get("/health").status, 200);
}

}  // namespace
}  // namespace pleiad::server
