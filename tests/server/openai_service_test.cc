#include "server/openai_service.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/server/live_service.h"

namespace pleiad::server {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

ServiceOptions guarded() {
  ServiceOptions options = default_service_options();
  options.api_keys = {"sk-1", "sk-2"};
  return options;
}

struct RouteCase {
  const char* path;
  const char* method;  // the one it takes; null: no route
  bool open;           // without a key
};

constexpr RouteCase kRoutes[] = {
    {"/health", "GET", true},
    {"/live", "GET", true},
    {"/ready", "GET", true},
    {"/version", "GET", false},
    {"/metrics", "GET", false},
    {"/ep", "GET", false},
    {"/v1/models", "GET", false},
    {"/v1/models/fable", "GET", false},
    {"/v1/chat/completions", "POST", false},
    {"/v1/completions", "POST", false},
    {"/tokenize", "POST", false},
    {"/detokenize", "POST", false},
    {"/", nullptr, false},
    {"/v1/models/", nullptr, false},
    {"/v1/embeddings", nullptr, false},
    {"/V1/models", nullptr, false},
    {"/health/", nullptr, false},
    {"/v1//models", nullptr, false},
    {"/../metrics", nullptr, false},
};

// The status that `method` on `route` has to end with.
int expected_status(const RouteCase& route, std::string_view method, bool admitted) {
  if (!admitted && !route.open) return 401;
  if (route.method == nullptr) return 404;
  const std::string_view taken = route.method;
  if (method != taken && !(method == "HEAD" && taken == "GET")) return 405;
  return taken == "POST" ? 400 : 200;  // the body is empty
}

TEST(OpenaiService, KeepsItsTableOfRoutesMethodsAndKeys) {
  LiveService live(LiveService::says("a"), guarded());
  struct Credential {
    const char* header;
    bool admitted;
  };
  const Credential credentials[] = {
      {nullptr, false}, {"Bearer sk-3", false}, {"Bearer sk-1", true}, {"sk-2", true}};
  for (const RouteCase& route : kRoutes) {
    for (const char* method :
         {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "FROB"}) {
      for (const Credential& credential : credentials) {
        net::HttpHeaders headers;
        if (credential.header != nullptr) headers.add("Authorization", credential.header);
        const auto answer = live.fetch({.method = method, .headers = headers}, route.path);
        ASSERT_TRUE(answer.ok());
        EXPECT_EQ(answer->status, expected_status(route, method, credential.admitted))
            << method << " " << route.path << " " << (credential.header ? credential.header : "");
      }
    }
  }
}

TEST(OpenaiService, TellsWhatARouteTakes) {
  LiveService live(LiveService::says("a"));

  EXPECT_EQ(live.post("/v1/models", "{}").headers.find("Allow"), "GET, HEAD");
  EXPECT_EQ(live.get(kChat).headers.find("Allow"), "POST");
  EXPECT_EQ(at(json(live.get(kChat).body), {"error", "type"}), Json("invalid_request_error"));
}

TEST(OpenaiService, AnswersHeadLikeGetWithoutABody) {
  LiveService live(LiveService::says("a"));

  const auto head = live.fetch({.method = "HEAD"}, "/v1/models");

  EXPECT_EQ(head->status, 200);
  EXPECT_EQ(head->body, "");
  EXPECT_EQ(
      head->headers.find("Content-Length"), std::to_string(live.get("/v1/models").body.size())
  );
}

TEST(OpenaiService, RefusesAWrongKeyInOpenAisWords) {
  LiveService live(LiveService::says("a"), guarded());

  const auto answer = live.get("/v1/models");

  EXPECT_EQ(answer.status, 401);
  EXPECT_EQ(answer.headers.find("WWW-Authenticate"), "Bearer");
  EXPECT_EQ(at(json(answer.body), {"error", "code"}), Json("invalid_api_key"));
  EXPECT_TRUE(at(json(answer.body), {"error", "param"}).is_null());
  EXPECT_TRUE(live.generator().requests().empty());
}

TEST(OpenaiService, ListsAndNamesItsModels) {
  LiveService live(LiveService::says("a"));

  const Json list = json(live.get("/v1/models").body);
  const Json one = json(live.get("/v1/models/fable%2Dalias").body);

  EXPECT_EQ(at(list, {"object"}), Json("list"));
  EXPECT_EQ(at(list, {"data", "0", "id"}), Json("fable"));
  EXPECT_EQ(at(list, {"data", "1", "id"}), Json("fable-alias"));
  EXPECT_EQ(at(list, {"data", "0", "object"}), Json("model"));
  EXPECT_EQ(at(list, {"data", "0", "created"}), Json(1'700'000'000));
  EXPECT_EQ(at(list, {"data", "0", "owned_by"}), Json("pleiad"));
  EXPECT_EQ(at(list, {"data", "0", "max_model_len"}), Json(256));
  EXPECT_EQ(one, at(list, {"data", "1"}));
}

TEST(OpenaiService, KnowsOnlyItsModels) {
  LiveService live(LiveService::says("a"));

  EXPECT_EQ(live.get("/v1/models/gpt-9").status, 404);
  EXPECT_EQ(live.get("/v1/models/%zz").status, 400);
  for (const char* path : {kChat, kCompletions}) {
    const std::string members = R"("model": "gpt-9")";
    const auto answer =
        live.post(path, path == kChat ? chat_body(members) : prompt_body("\"a\"", members));
    EXPECT_EQ(answer.status, 404);
    EXPECT_EQ(at(json(answer.body), {"error", "code"}), Json("model_not_found"));
    EXPECT_EQ(at(json(answer.body), {"error", "param"}), Json("model"));
  }
}

TEST(OpenaiService, TakesAnEmptyModelForTheServedOne) {
  LiveService live(LiveService::says("a"));
  const auto model = [&](std::string_view members) {
    return at(json(live.post(kChat, chat_body(members)).body), {"model"});
  };

  EXPECT_EQ(model(R"("model": "")"), Json("fable"));
  EXPECT_EQ(model(""), Json("fable"));
  EXPECT_EQ(model(R"("model": null)"), Json("fable"));
  EXPECT_EQ(model(R"("model": "fable-alias")"), Json("fable-alias"));
}

TEST(OpenaiService, TellsItsVersionAndMetrics) {
  LiveService live(LiveService::says("a"));

  EXPECT_EQ(json(live.get("/ep").body), json(R"({"ep_size": 2})"));
  EXPECT_EQ(json(live.get("/version").body), json(R"({"version": "1.2.3"})"));
  (void)live.get("/nowhere");
  (void)live.post(kChat, chat_body());
  live.wait_until_idle();
  const auto metrics = live.get("/metrics");

  EXPECT_THAT(std::string(*metrics.headers.find("Content-Type")), StartsWith("text/plain"));
  EXPECT_THAT(
      metrics.body,
      AllOf(
          HasSubstr(R"(pleiad_http_requests_total{route="other",code="404"} 1)"),
          HasSubstr(R"(pleiad_http_requests_total{route="/version",code="200"} 1)"),
          HasSubstr(R"(pleiad_http_requests_total{route="/v1/chat/completions",code="200"} 1)")
      )
  );
}

TEST(OpenaiService, TellsTheTruthAboutItsHealth) {
  LiveService live(LiveService::says("a"));
  const auto expect = [&](int health, int ready, std::string_view state) {
    EXPECT_EQ(live.get("/live").status, 200);
    EXPECT_EQ(live.get("/health").status, health);
    const auto answer = live.get("/ready");
    EXPECT_EQ(answer.status, ready);
    EXPECT_EQ(at(json(answer.body), {"status"}), Json(state));
  };

  expect(200, 200, "ready");
  live.generator().set_status({.accepting = false});
  expect(200, 503, "unavailable");
  live.generator().set_status({.accepting = true, .seconds_since_progress = 31.0});
  expect(503, 503, "stuck");
  live.generator().set_status({.accepting = true, .seconds_since_progress = 29.0});
  expect(200, 200, "ready");
  live.service().begin_drain();
  expect(200, 503, "draining");
}

TEST(OpenaiService, ReadsJsonOnly) {
  LiveService live(LiveService::says("a"));
  const auto status = [&](net::HttpHeaders headers) {
    return live
        .fetch({.method = "POST", .headers = std::move(headers), .body = chat_body()}, kChat)
        ->status;
  };

  EXPECT_EQ(status({}), 200);
  EXPECT_EQ(status({{"Content-Type", "application/json; charset=utf-8"}}), 200);
  EXPECT_EQ(status({{"Content-Type", "Application/JSON"}}), 200);
  EXPECT_EQ(status({{"Content-Type", "text/plain"}}), 415);
  EXPECT_EQ(status({{"Content-Type", "application/x-www-form-urlencoded"}}), 415);
  EXPECT_EQ(status({{"Content-Type", "application/jsonp"}}), 415);
  EXPECT_EQ(status({{"Content-Type", "application/json"}, {"Content-Encoding", "gzip"}}), 415);
}

TEST(OpenaiService, RefusesBodiesThatAreNoJson) {
  LiveService live(LiveService::says("a"));
  const std::string deep_members[] = {
      R"("x": )" + std::string(64, '[') + std::string(64, ']'),
      R"("tools": )" + std::string(64, '[') + std::string(64, ']'),
      R"("x": )" + std::string(1'000'000, '['),
  };
  for (const std::string& members : deep_members) {
    EXPECT_EQ(live.post(kChat, chat_body(members)).status, 400);
  }
  EXPECT_EQ(
      live.post(kChat, chat_body(R"("x": )" + std::string(63, '[') + std::string(63, ']'))).status,
      200
  );
  for (const char* body :
       {"",
        "{",
        "[]",
        "null",
        "{} {}",
        R"({"prompt": "\xff"})",
        R"({"prompt": "\ud800"})",
        R"({"prompt": "a", "prompt": "b"})",
        R"({"prompt": "a", "seed": NaN})",
        R"({"prompt": "a", "temperature": 1e400})",
        "{'prompt': 'a'}"}) {
    const auto answer = live.post(kCompletions, body);
    EXPECT_EQ(answer.status, 400) << body;
    const Json error = at(json(answer.body), {"error"});
    for (const char* member : {"message", "type", "param", "code"}) {
      EXPECT_TRUE(has(error, member)) << body;
    }
  }
  EXPECT_EQ(live.post(kCompletions, "{\"prompt\": \"\xFF\"}").status, 400);
}

TEST(OpenaiService, RefusesABodyAboveTheLimit) {
  LiveService live(LiveService::says("a"));

  const auto answer = live.post(kChat, std::string((32U << 20U) + 1, ' '));

  EXPECT_EQ(answer.status, 413);
  EXPECT_EQ(at(json(answer.body), {"error", "type"}), Json("invalid_request_error"));
}

TEST(OpenaiService, EchoesTheClientsRequestId) {
  LiveService live(LiveService::says("a"));
  const auto id_of = [&](std::string given, const char* target, std::string body) {
    const auto answer = live.fetch(
        {.method = "POST",
         .headers = {{"x-request-id", std::move(given)}},
         .body = std::move(body)},
        target
    );
    return std::string(answer->headers.find("x-request-id").value_or("none"));
  };

  EXPECT_EQ(id_of("mine-1", kChat, chat_body()), "mine-1");
  EXPECT_EQ(id_of("mine-2", kChat, "{"), "mine-2");
  EXPECT_EQ(id_of("mine-3", "/nowhere", ""), "mine-3");
  EXPECT_THAT(id_of("", kChat, chat_body()), StartsWith("req-"));
  EXPECT_THAT(id_of(std::string(129, 'x'), kChat, chat_body()), StartsWith("req-"));
}

TEST(OpenaiService, RefusesNewWorkWhileItDrains) {
  LiveService live(LiveService::goes_on_after("a"));
  net::RawClient open = live.connect();
  open.send(LiveService::wire(kChat, chat_body(R"("stream": true)")));
  open.read_until("\"a\"");
  live.service().begin_drain();

  const auto refused = live.post(kChat, chat_body());

  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(refused.headers.find("Retry-After"), "1");
  EXPECT_TRUE(refused.headers.find("retry-after-ms").has_value());
  EXPECT_EQ(at(json(refused.body), {"error", "code"}), Json("overloaded"));
  EXPECT_EQ(live.post("/tokenize", prompt_body("\"a\"")).status, 503);
  EXPECT_EQ(live.generator().cut(), 0U);
}

TEST(OpenaiService, BoundsWhatIsPreparedAtOnce) {
  ServiceOptions none = default_service_options();
  none.preparing_max = 0;
  ServiceOptions bytes = default_service_options();
  bytes.preparing_bytes_max = 100;
  LiveService full(LiveService::says("a"), none);
  LiveService narrow(LiveService::says("a"), bytes);

  const auto refused = full.post(kChat, chat_body());

  EXPECT_EQ(refused.status, 429);
  EXPECT_EQ(refused.headers.find("Retry-After"), "1");
  EXPECT_EQ(at(json(refused.body), {"error", "type"}), Json("rate_limit_error"));
  EXPECT_EQ(narrow.post(kChat, chat_body()).status, 200);
  EXPECT_EQ(narrow.post(kChat, chat_body() + std::string(100, ' ')).status, 429);
  EXPECT_EQ(narrow.post(kChat, chat_body()).status, 200);
}

TEST(OpenaiService, TokenizesAndDetokenizes) {
  LiveService live(LiveService::says("a"));
  const auto tokens = encode("Once upon a time");

  const Json counted = json(live.post("/tokenize", prompt_body("\"Once upon a time\"")).body);
  const Json chat = json(live.post("/tokenize", chat_body()).body);
  const Json back = json(
      live.post("/detokenize", fmt::format(R"({{"tokens": {}}})", at(counted, {"tokens"}).dump()))
          .body
  );

  EXPECT_EQ(at(counted, {"count"}), Json(static_cast<std::int64_t>(tokens.size())));
  EXPECT_EQ(at(counted, {"tokens", "0"}), Json(static_cast<std::int64_t>(tokens[0])));
  EXPECT_EQ(at(counted, {"max_model_len"}), Json(256));
  EXPECT_EQ(at(chat, {"tokens", "0"}), Json(static_cast<std::int64_t>(*fable().bos())));
  EXPECT_EQ(at(back, {"prompt"}), Json("Once upon a time"));
  EXPECT_EQ(at(json(live.post("/tokenize", prompt_body("\"\"")).body), {"count"}), Json(0));
}

TEST(OpenaiService, RefusesToDetokenizeWhatIsNoToken) {
  LiveService live(LiveService::says("a"));
  for (const char* body :
       {"{}",
        R"({"tokens": 1})",
        R"({"tokens": [-1]})",
        R"({"tokens": [4096]})",
        R"({"tokens": ["1"]})",
        R"({"tokens": [9223372036854775808]})"}) {
    const auto answer = live.post("/detokenize", body);
    EXPECT_EQ(answer.status, 400) << body;
    EXPECT_EQ(at(json(answer.body), {"error", "param"}), Json("tokens")) << body;
  }
  EXPECT_EQ(live.post("/tokenize", prompt_body(R"(["a", "b"])")).status, 400);
  EXPECT_EQ(live.post("/tokenize", prompt_body("\"a\"", R"("model": "no")")).status, 404);
}

}  // namespace
}  // namespace pleiad::server
