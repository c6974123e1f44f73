// Also tests: route_command.cc
// Also tests: drain_wait.cc
#include "apps/route_instance.h"

#include <filesystem>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "apps/serve_instance.h"
#include "net/http_client.h"
#include "tests/weights/files.h"

namespace pleiad::apps {
namespace {

using ::testing::HasSubstr;

const std::filesystem::path kFable = std::filesystem::path(PLEIAD_SOURCE_DIR) / "models/fable";

std::unique_ptr<ServeInstance> worker(std::int32_t ep_size = 1) {
  ServeSettings settings{.port = 0};
  settings.load.model = kFable;
  settings.load.kv_cache_bytes = std::size_t{16} << 20U;
  settings.load.threads = 1;
  settings.load.layout = {.dp_size = ep_size, .ep_size = ep_size};
  settings.cluster_secret = "of the test";
  return ServeInstance::start(std::move(settings)).value();
}

RouteSettings route_to(const std::vector<std::string>& workers) {
  RouteSettings settings{.port = 0};
  settings.text.model = kFable;
  settings.workers = workers;
  settings.router.secret = "of the test";
  settings.router.report_interval = std::chrono::milliseconds(5);
  return settings;
}

net::HttpResponse ask(const std::string& url, const std::string& body = "") {
  net::HttpClientRequest request{
      .url = net::parse_url(url).value(), .headers = {{"Content-Type", "application/json"}}};
  if (!body.empty()) {
    request.method = "POST";
    request.body = body;
  }
  return net::http_fetch(std::move(request)).value();
}

void wait_until_ready(const RouteInstance& router) {
  while (ask(router.url() + "/ready").status != 200)
    std::this_thread::yield();
}

// What a client sees of an answer but its id and time.
std::string told(const std::string& url, const std::string& body) {
  const Json answer = parse_json(ask(url + "/v1/completions", body).body).value();
  const Json* choices = answer.find("choices");
  return choices == nullptr ? answer.dump() : choices->dump() + answer.find("usage")->dump();
}

TEST(RouteInstance, AnswersLikeItsWorkersToTheLastBit) {
  const auto one = worker();
  const auto two = worker(2);
  const auto router = RouteInstance::start(route_to({one->url(), two->url()})).value();
  wait_until_ready(*router);
  for (int seed = 0; seed < 6; ++seed) {
    const std::string body =
        R"({"model":"","prompt":"Once upon a time","max_tokens":12,"logprobs":3,"temperature":0.9,"seed":)" +
        std::to_string(seed) + R"(,"echo":true,"n":2})";
    EXPECT_EQ(told(router->url(), body), told(one->url(), body));
  }
  EXPECT_THAT(
      told(router->url(), R"({"model":"","prompt":"x","max_tokens":100000})"), HasSubstr("context")
  );
}

TEST(RouteInstance, TextAnswersWhileWorkersAreMissing) {
  const auto router = RouteInstance::start(route_to({"http://127.0.0.1:1"})).value();

  EXPECT_EQ(ask(router->url() + "/ready").status, 503);
  EXPECT_EQ(ask(router->url() + "/live").status, 200);
  EXPECT_EQ(ask(router->url() + "/v1/models").status, 200);
  EXPECT_EQ(ask(router->url() + "/tokenize", R"({"model":"","prompt":"a fox"})").status, 200);
  EXPECT_EQ(ask(router->url() + "/v1/completions", R"({"model":"","prompt":"x"})").status, 503);
  const std::string chat = R"({"messages":[{"role":"user","content":"x"}]})";
  EXPECT_EQ(ask(router->url() + "/v1/chat/completions", chat).status, 503) << "of any length";
}

TEST(RouteInstance, TellsWhoAnsweredAndHoldsKeysToTheirLimits) {
  const weights::testing::Folder folder;
  folder.write(
      "policy.yaml",
      "keys: [{name: team, requests_per_minute: 2, sha256: "
      "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad}]\n"
  );
  const auto one = worker();
  RouteSettings settings = route_to({one->url()});
  settings.policy_file = (folder.path() / "policy.yaml").string();
  const auto router = RouteInstance::start(std::move(settings)).value();
  wait_until_ready(*router);
  const auto complete = [&] {
    return net::http_fetch({.method = "POST",
                            .url = net::parse_url(router->url() + "/v1/completions").value(),
                            .headers =
                                {{"Content-Type", "application/json"},
                                 {"Authorization", "Bearer abc"},
                                 {"x-request-id", "mine"}},
                            .body = R"({"model":"","prompt":"x","max_tokens":2})"})
        .value();
  };

  EXPECT_EQ(ask(router->url() + "/v1/models").status, 401) << "the file's keys close the router";
  const auto first = complete();
  EXPECT_EQ(first.headers.find("x-request-id"), "mine");
  EXPECT_EQ(first.headers.find("x-served-by"), one->url() + ";dp_rank=0");
  EXPECT_TRUE(first.headers.find("x-cached-tokens").has_value());
  EXPECT_EQ(first.headers.find("x-ratelimit-remaining-requests"), "1");
  EXPECT_EQ(complete().status, 200);
  const auto third = complete();
  EXPECT_EQ(third.status, 429);
  EXPECT_THAT(third.body, HasSubstr("2 requests per minute"));
  EXPECT_TRUE(third.headers.find("Retry-After").has_value());
}

TEST(RouteInstance, APolicyFileThatWouldOpenTheRouterToAllIsRefused) {
  const weights::testing::Folder folder;
  const std::string key =
      "keys: [{name: team, sha256: "
      "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad}]\n";
  folder.write("policy.yaml", key);
  RouteSettings settings = route_to({});
  settings.host = "0.0.0.0";
  settings.policy_file = (folder.path() / "policy.yaml").string();
  settings.policy_interval = std::chrono::hours(1);
  const auto router = RouteInstance::start(std::move(settings)).value();

  folder.write("policy.yaml", "policy: random\n");
  router->reload_policy();

  EXPECT_EQ(ask(router->url() + "/v1/models").status, 401);
  settings = route_to({});
  settings.policy_file = (folder.path() / "policy.yaml").string();
  folder.write("policy.yaml", "max_concurrent_requests: 5000\n");
  EXPECT_THAT(
      RouteInstance::start(settings).error().message, HasSubstr("--max-concurrent-requests")
  );
}

TEST(RouteInstance, HealthIsTrueAndReadinessSaysWhyNot) {
  const auto router = RouteInstance::start(route_to({})).value();
  EXPECT_EQ(ask(router->url() + "/health").status, 200);
  EXPECT_EQ(ask(router->url() + "/ready").status, 503);
  while (ask(router->url() + "/ready").body.find("there is no worker") == std::string::npos)
    std::this_thread::yield();
  EXPECT_EQ(ask(router->url() + "/health").status, 200);
}

TEST(RouteInstance, WorkersThatRegisterThemselvesAnswer) {
  const auto router = RouteInstance::start(route_to({})).value();
  ServeSettings settings{.port = 0};
  settings.load.model = kFable;
  settings.load.kv_cache_bytes = std::size_t{16} << 20U;
  settings.load.threads = 1;
  settings.cluster_secret = "of the test";
  settings.routers = {router->url()};
  const auto one = ServeInstance::start(std::move(settings)).value();
  wait_until_ready(*router);

  EXPECT_EQ(ask(router->url() + "/v1/completions", R"({"prompt":"x","max_tokens":1})").status, 200);

  std::promise<void> drained;
  one->drain([&] { drained.set_value(); });
  drained.get_future().wait();
  while (ask(router->url() + "/ready").body.find("there is no worker") == std::string::npos)
    std::this_thread::yield();
}

TEST(RouteInstance, WhatIsMissingIsSaidAtOnce) {
  RouteSettings settings = route_to({});
  settings.router.secret.clear();
  EXPECT_THAT(RouteInstance::start(settings).error().message, HasSubstr("PLEIAD_CLUSTER_SECRET"));
  settings = route_to({"localhost"});
  EXPECT_FALSE(RouteInstance::start(settings).ok());
  settings = route_to({});
  settings.text.model = "/nowhere";
  EXPECT_THAT(RouteInstance::start(settings).error().message, HasSubstr("/nowhere"));
  settings = route_to({});
  settings.host = "0.0.0.0";
  EXPECT_THAT(RouteInstance::start(settings).error().message, HasSubstr("--api-key"));
}

}  // namespace
}  // namespace pleiad::apps
