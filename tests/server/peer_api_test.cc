#include "server/peer_api.h"

#include <memory>
#include <string>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "api/generation_stream.h"
#include "api/generation_wire.h"
#include "net/http_client.h"
#include "net/http_server.h"
#include "tests/net/raw_client.h"
#include "tests/server/fake_generator.h"

namespace pleiad::server {
namespace {

using ::testing::HasSubstr;

const std::string kKey = "Bearer s3cret";

// The API over a real server, in front of a fake generator.
class LivePeerApi {
 public:
  explicit LivePeerApi(
      FakeGenerator::Writer writer,
      std::string secret = "s3cret",
      std::function<std::string()> prefill_offer = {}
  )
      : generator_(std::make_unique<FakeGenerator>(std::move(writer))),
        api_(std::make_unique<PeerApi>(
            *generator_,
            loop_,
            PeerApi::Options{
                .secret = std::move(secret),
                .instance = "one start",
                .report = [] { return api::WorkerReport{.instance = "one start", .ranks = {{}}}; },
                .prefill_offer = std::move(prefill_offer),
                .alive_interval = std::chrono::milliseconds(5)}
        )) {
    server_ = net::HttpServer::listen(
                  loop_,
                  {},
                  [this](net::HttpRequest request, std::unique_ptr<net::Responder> responder) {
                    api_->handle(std::move(request), std::move(responder));
                  }
    ).value();
    thread_ = std::thread([this] { loop_.run(); });
  }
  LivePeerApi(const LivePeerApi&) = delete;
  LivePeerApi& operator=(const LivePeerApi&) = delete;
  ~LivePeerApi() {
    loop_.stop();
    thread_.join();
    generator_.reset();
    api_.reset();
    server_.reset();
  }

  net::HttpResponse ask(
      const std::string& method,
      const std::string& path,
      const std::string& body = "",
      const std::string& key = kKey,
      const std::string& instance = "one start"
  ) {
    return net::http_fetch(
               {.method = method,
                .url = net::parse_url("http://127.0.0.1:" + std::to_string(port()) + path).value(),
                .headers = {{"Authorization", key}, {std::string(api::kInstanceHeader), instance}},
                .body = body}
    )
        .value();
  }
  [[nodiscard]] std::uint16_t port() const { return server_->port(); }
  FakeGenerator& generator() { return *generator_; }

 private:
  net::EventLoop loop_;
  std::unique_ptr<FakeGenerator> generator_;
  std::unique_ptr<PeerApi> api_;
  std::unique_ptr<net::HttpServer> server_;
  std::thread thread_;
};

std::string submission(const api::GenerationRequest& request) {
  const auto bytes = api::encode(api::SubmitMessage{.id = api::RequestId(0), .request = request});
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

class Tokens final : public api::GenerationSink {
 public:
  void on_prompt_token(const api::TokenEvent& /*event*/) override { ++prompt_tokens; }
  void on_token(const api::TokenEvent& event) override { ids.push_back(event.chosen.token); }
  void on_finish(const api::FinishEvent& event) override { finish = event; }

  int prompt_tokens = 0;
  std::vector<TokenId> ids;
  std::optional<api::FinishEvent> finish;
};

TEST(PeerApi, StreamsWhatARequestProduces) {
  LivePeerApi live([](const api::GenerationRequest&) {
    return Script{.tokens = {5, 6, 7}, .reason = api::FinishReason::Length, .cached_tokens = 2};
  });
  const auto answer =
      live.ask("POST", "/internal/generate", submission({.prompt = {1, 2}, .max_tokens = 3}));

  EXPECT_EQ(answer.status, 200);
  Tokens tokens;
  api::GenerationStreamReader reader(tokens);
  ASSERT_TRUE(reader.feed(answer.body).ok());
  EXPECT_EQ(tokens.ids, (std::vector<TokenId>{5, 6, 7}));
  ASSERT_TRUE(tokens.finish.has_value());
  EXPECT_EQ(tokens.finish->reason, api::FinishReason::Length);
  EXPECT_EQ(tokens.finish->cached_tokens, 2);
}

TEST(PeerApi, OnlyWhoKnowsTheSecretComesIn) {
  LivePeerApi live([](const api::GenerationRequest&) { return Script{}; });
  for (const char* path : {"/internal/report", "/internal/generate", "/internal/finish/1"}) {
    for (const char* key : {"", "Bearer wrong", "Bearer ", "s3cre"}) {
      EXPECT_EQ(live.ask("POST", path, "", key).status, 401) << path << " " << key;
    }
  }
  LivePeerApi closed([](const api::GenerationRequest&) { return Script{}; }, "");
  EXPECT_EQ(closed.ask("GET", "/internal/report", "", "Bearer ").status, 401);
}

TEST(PeerApi, TellsItsReport) {
  LivePeerApi live([](const api::GenerationRequest&) { return Script{}; });
  const auto answer = live.ask("GET", "/internal/report");

  EXPECT_EQ(answer.status, 200);
  EXPECT_THAT(answer.body, HasSubstr("\"instance\":\"one start\""));
}

std::string order(std::string instance = "one start") {
  const auto bytes = api::encode(api::PrefillOrder{
      .id = {.epoch = 1, .number = 2, .attempt = 3},
      .instance = std::move(instance),
      .prompt = {5, 6, 7},
      .first = 1,
      .shared = true,
      .cache_salt = "tenant",
      .dp_rank = 2});
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

TEST(PeerApi, APrefillWorkerOffersAndSendsWhatWasOrdered) {
  LivePeerApi live(
      [](const api::GenerationRequest& request) {
        EXPECT_TRUE(request.kv_order->outlet->write("keys"));
        EXPECT_TRUE(request.kv_order->outlet->write(" and values"));
        return Script{};
      },
      "s3cret",
      [] { return std::string("an offer"); }
  );
  EXPECT_EQ(live.ask("GET", "/internal/prefill").body, "an offer");
  const auto answer = live.ask("POST", "/internal/prefill", order());
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.body, "keys and values");
  const api::GenerationRequest request = live.generator().requests().at(0);
  EXPECT_EQ(request.prompt, (std::vector<TokenId>{5, 6, 7}));
  EXPECT_EQ(request.max_tokens, 0);
  EXPECT_EQ(request.cache_salt, "tenant");
  EXPECT_EQ(request.dp_rank, 2);
  EXPECT_EQ(request.kv_order->id, (TransferId{1, 2, 3}));
  EXPECT_EQ(request.kv_order->first, 1);
  EXPECT_TRUE(request.kv_order->shared);
}

TEST(PeerApi, OrdersThatCannotBeTakenHaveTheirStatus) {
  const auto offer = [] { return std::string("an offer"); };
  LivePeerApi live([](const api::GenerationRequest&) { return Script{}; }, "s3cret", offer);
  EXPECT_EQ(live.ask("POST", "/internal/prefill", "garbage").status, 400);
  EXPECT_EQ(live.ask("POST", "/internal/prefill", order("an earlier start")).status, 409);
  EXPECT_EQ(live.ask("POST", "/internal/prefill", order(), "Bearer wrong").status, 401);
  live.generator().refuse(unavailable("draining"));
  EXPECT_EQ(live.ask("POST", "/internal/prefill", order()).status, 503);
  LivePeerApi none([](const api::GenerationRequest&) { return Script{}; });
  const auto answer = none.ask("POST", "/internal/prefill", order());
  EXPECT_EQ(answer.status, 404);
  EXPECT_THAT(answer.body, HasSubstr("--disaggregation-mode prefill"));
}

TEST(PeerApi, APromptThatIsNotComputedAnyMoreIsAnsweredAsSuch) {
  LivePeerApi live(
      [](const api::GenerationRequest&) { return Script{.reason = api::FinishReason::Cancelled}; },
      "s3cret",
      [] { return std::string("an offer"); }
  );
  EXPECT_EQ(live.ask("POST", "/internal/prefill", order()).status, 503);
}

TEST(PeerApi, RefusalsHaveTheirStatus) {
  LivePeerApi live([](const api::GenerationRequest&) { return Script{}; });
  EXPECT_EQ(live.ask("POST", "/internal/generate", "garbage").status, 400);
  EXPECT_EQ(live.ask("GET", "/internal/generate").status, 404);
  EXPECT_EQ(live.ask("GET", "/internal/nothing").status, 404);
  EXPECT_EQ(live.ask("POST", "/internal/finish/x").status, 400);
  EXPECT_EQ(live.ask("POST", "/internal/finish/12").status, 204);  // finished ids are fine
  live.generator().refuse(exhausted("full"));
  EXPECT_EQ(
      live.ask("POST", "/internal/generate", submission({.prompt = {1}, .max_tokens = 1})).status,
      429
  );
}

TEST(PeerApi, WhatIsMeantForAnotherStartIsRefused) {
  LivePeerApi live([](const api::GenerationRequest&) { return Script{}; });
  const std::string body = submission({.prompt = {1}, .max_tokens = 1});
  EXPECT_EQ(live.ask("POST", "/internal/generate", body, kKey, "another").status, 503);
  EXPECT_EQ(live.ask("POST", "/internal/finish/1", "", kKey, "another").status, 503);
  EXPECT_EQ(live.ask("POST", "/internal/generate", body, kKey, "one start").status, 200);
  EXPECT_EQ(live.ask("GET", "/internal/report", "", kKey, "another").status, 200);
}

TEST(PeerApi, AnAnswerWithNothingToTellSaysThatItIsAlive) {
  LivePeerApi live([](const api::GenerationRequest&) { return Script{.open = true}; });
  net::RawClient client(live.port());
  const std::string body = submission({.prompt = {1}, .max_tokens = 9});
  client.send(
      "POST /internal/generate HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer s3cret\r\n"
      "Content-Length: " +
      std::to_string(body.size()) + "\r\n\r\n" + body
  );
  std::string alive;
  api::append_alive(alive);
  client.read_until(alive);
  client.read_until(alive);
  EXPECT_FALSE(client.timed_out());
}

TEST(PeerApi, APeerThatHangsUpCancels) {
  LivePeerApi live([](const api::GenerationRequest&) { return Script{.tokens = {5}, .open = true}; }
  );
  {
    net::RawClient client(live.port());
    const std::string body = submission({.prompt = {1}, .max_tokens = 9});
    client.send(
        "POST /internal/generate HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer s3cret\r\n"
        "Content-Length: " +
        std::to_string(body.size()) + "\r\n\r\n" + body
    );
    EXPECT_THAT(client.read_until("\r\n\r\n"), HasSubstr("200 OK"));
  }
  live.generator().wait_until_cut(1);
}

}  // namespace
}  // namespace pleiad::server
