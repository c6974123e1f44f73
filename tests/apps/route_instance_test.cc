// Also tests: route_command.cc
// Also tests: drain_wait.cc
#include "apps/route_instance.h"

#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "apps/serve_instance.h"
#include "net/http_client.h"

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
