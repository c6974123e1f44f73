#include "apps/serve_instance.h"

#include <filesystem>
#include <future>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "api/generation_stream.h"
#include "api/generation_wire.h"
#include "net/http_client.h"

namespace pleiad::apps {
namespace {

ServeSettings fable() {
  ServeSettings settings{.port = 0};
  settings.load.model = std::filesystem::path(PLEIAD_SOURCE_DIR) / "models/fable";
  settings.load.kv_cache_bytes = std::size_t{16} << 20U;
  return settings;
}

std::string refusal(ServeSettings settings) {
  const auto started = ServeInstance::start(std::move(settings));
  return started.ok() ? "" : started.error().message;
}

bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

net::HttpResponse
get(const ServeInstance& instance, const std::string& path, const std::string& key = "") {
  net::HttpClientRequest request{.url = net::parse_url(instance.url() + path).value()};
  if (!key.empty()) request.headers.add("Authorization", key);
  return net::http_fetch(std::move(request)).value();
}

TEST(ServeInstance, AnswersAsSoonAsItHasStartedAndTellsItsPhases) {
  const auto instance = ServeInstance::start(fable()).value();

  EXPECT_EQ(instance->model_name(), "fable");
  EXPECT_EQ(get(*instance, "/ready").status, 200);
  EXPECT_TRUE(contains(get(*instance, "/v1/models").body, "\"fable\""));
  EXPECT_GT(instance->report().ready_seconds, 0.0);
  EXPECT_GE(instance->report().ready_seconds, instance->report().pack_seconds);
}

TEST(ServeInstance, APortInUseIsToldWithAddressAndPort) {
  const auto first = ServeInstance::start(fable()).value();
  ServeSettings second = fable();
  second.port =
      static_cast<std::uint16_t>(std::stoi(first->url().substr(first->url().rfind(':') + 1)));

  const std::string message = refusal(std::move(second));

  EXPECT_TRUE(contains(message, "127.0.0.1"));
  EXPECT_TRUE(contains(message, first->url().substr(first->url().rfind(':') + 1)));
}

TEST(ServeInstance, AStopEndsTheWaitForOtherNodes) {
  ServeSettings settings = fable();
  settings.load.layout = {.dp_size = 2, .ep_size = 2, .nnodes = 2};
  settings.dist_init_addr = "127.0.0.1:0";
  settings.cluster_secret = "secret";
  std::stop_source stop;
  stop.request_stop();

  const auto started = ServeInstance::start(std::move(settings), stop.get_token());

  ASSERT_FALSE(started.ok());
  EXPECT_EQ(started.error().kind, ErrorKind::Cancelled);
}

TEST(ServeInstance, BeyondLoopbackAKeyOrAnExplicitFlagIsNeeded) {
  ServeSettings open = fable();
  open.host = "0.0.0.0";
  EXPECT_TRUE(contains(refusal(open), "--api-key"));
  open.allow_unauthenticated = true;
  EXPECT_EQ(refusal(open), "");
  open.allow_unauthenticated = false;
  open.api_keys = {"secret"};
  EXPECT_EQ(refusal(open), "");
  open.api_keys = {""};
  EXPECT_TRUE(contains(refusal(open), "must not be empty"));
}

TEST(ServeInstance, KeysAreAskedForInBothForms) {
  ServeSettings settings = fable();
  settings.api_keys = {"one", "two"};
  const auto instance = ServeInstance::start(std::move(settings)).value();

  EXPECT_EQ(get(*instance, "/v1/models").status, 401);
  EXPECT_EQ(get(*instance, "/v1/models", "Bearer three").status, 401);
  EXPECT_EQ(get(*instance, "/v1/models", "Bearer one").status, 200);
  EXPECT_EQ(get(*instance, "/v1/models", "two").status, 200);
  EXPECT_EQ(get(*instance, "/health").status, 200);
}

TEST(ServeInstance, NoiseIsServedByIdsFromAConfigAlone) {
  const auto* test = testing::UnitTest::GetInstance()->current_test_info();
  const auto folder = std::filesystem::path(testing::TempDir()) / test->name();
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  ServeSettings settings = fable();
  std::filesystem::copy_file(settings.load.model / "config.json", folder / "config.json");
  settings.load.model = folder;
  settings.load.dummy_weights = true;
  settings.text.tokenizer_may_lack = true;

  const auto instance = ServeInstance::start(std::move(settings)).value();
  const std::string body = R"({"prompt": [1, 2, 3], "max_tokens": 4, "ignore_eos": true})";
  const auto answer =
      net::http_fetch({.method = "POST",
                       .url = net::parse_url(instance->url() + "/v1/completions").value(),
                       .body = body})
          .value();

  EXPECT_TRUE(instance->report().dummy_weights);
  EXPECT_TRUE(instance->report().token_ids_only);
  EXPECT_EQ(answer.status, 200) << answer.body;
  std::filesystem::remove_all(folder);
}

TEST(ServeInstance, NamesWhatIsWrongWithAModelFolder) {
  ServeSettings settings = fable();
  settings.load.model = "/no/such/model";
  EXPECT_TRUE(contains(refusal(settings), "/no/such/model"));
  // A folder with weights but no tokenizer: the golden checkpoint.
  settings.load.model = std::filesystem::path(PLEIAD_SOURCE_DIR) / "tests/golden/deepseek_v3";
  EXPECT_TRUE(contains(refusal(settings), "--skip-tokenizer-init"));
  settings.text.skip_tokenizer = true;
  EXPECT_EQ(refusal(settings), "");
  settings = fable();
  settings.text.chat_template = "/no/such/template.jinja";
  EXPECT_TRUE(contains(refusal(settings), "/no/such/template.jinja"));
}

TEST(ServeInstance, ATokenizerOfAnotherCheckpointIsToldBeforeWeightsAreRead) {
  const auto* test = testing::UnitTest::GetInstance()->current_test_info();
  const auto folder = std::filesystem::path(testing::TempDir()) / test->name();
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  for (const char* name : {"tokenizer.json", "tokenizer_config.json"}) {
    std::filesystem::copy_file(fable().load.model / name, folder / name);
  }
  // 512 rows for the 4096 tokens of the bundled tokenizer, and no weights at all.
  std::filesystem::copy_file(
      std::filesystem::path(PLEIAD_SOURCE_DIR) / "tests/golden/qwen3_moe/config.json",
      folder / "config.json"
  );
  ServeSettings settings = fable();
  settings.load.model = folder;

  const std::string message = refusal(std::move(settings));

  EXPECT_TRUE(contains(message, "tokenizer.json has ids up to 4095")) << message;
  std::filesystem::remove_all(folder);
}

TEST(ServeInstance, DrainEndsWhenNothingIsOpen) {
  const auto instance = ServeInstance::start(fable()).value();
  std::promise<void> drained;

  instance->drain([&drained] { drained.set_value(); });

  EXPECT_EQ(drained.get_future().wait_for(std::chrono::seconds{30}), std::future_status::ready);
}

TEST(ServeInstance, WhatARegistrationLacksIsSaidAtOnce) {
  ServeSettings settings = fable();
  settings.routers = {"http://127.0.0.1:1"};
  EXPECT_TRUE(contains(refusal(settings), "PLEIAD_CLUSTER_SECRET"));
  settings.cluster_secret = "of the test";
  settings.routers = {"127.0.0.1:1"};
  EXPECT_TRUE(contains(refusal(settings), "--register"));
  settings.routers = {"http://127.0.0.1:1"};
  settings.host = "0.0.0.0";
  settings.allow_unauthenticated = true;
  EXPECT_TRUE(contains(refusal(settings), "--register-url"));
  settings.register_url = "me";
  EXPECT_TRUE(contains(refusal(settings), "--register-url"));
  settings.routers.clear();
  EXPECT_TRUE(contains(refusal(settings), "--register"));
}

// A worker of a role, and a request to it as a router sends it.
std::unique_ptr<ServeInstance> worker(api::Role role, const HandOverChoice& how = {}) {
  ServeSettings settings = fable();
  settings.cluster_secret = "secret";
  settings.hand_over = how;
  settings.hand_over.role = role;
  return ServeInstance::start(std::move(settings)).value();
}

struct Answer final : public api::GenerationSink {
  void on_prompt_token(const api::TokenEvent& /*event*/) override {}
  void on_token(const api::TokenEvent& event) override {
    tokens.emplace_back(event.chosen.token, event.chosen.logprob);
  }
  void on_finish(const api::FinishEvent& event) override { finish = event; }

  std::vector<std::pair<TokenId, float>> tokens;
  api::FinishEvent finish;
};

Answer generate(const ServeInstance& instance, const std::string& prefill_url) {
  api::SubmitMessage message{.request = {.prompt = std::vector<TokenId>(300), .max_tokens = 5}};
  for (std::size_t i = 0; i < 300; ++i)
    message.request.prompt[i] = static_cast<TokenId>(6 + i * 37 % 4000);
  message.request.ignore_eos = true;
  message.request.top_logprobs = 0;
  if (!prefill_url.empty()) message.request.prefill_from = api::PrefillFrom{.url = prefill_url};
  const auto bytes = api::encode(message);
  const auto response =
      net::http_fetch({.method = "POST",
                       .url = net::parse_url(instance.url() + "/internal/generate").value(),
                       .headers = {{"Authorization", "Bearer secret"}},
                       .body =
                           std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size())})
          .value();
  Answer answer;
  EXPECT_EQ(response.status, 200) << response.body;
  EXPECT_TRUE(api::GenerationStreamReader(answer).feed(response.body).ok());
  return answer;
}

TEST(ServeInstance, WhatAPrefillWorkerComputesADecodeWorkerGoesOnWith) {
  const auto alone = worker(api::Role::Both);
  const Answer expected = generate(*alone, "");
  ASSERT_EQ(expected.tokens.size(), 5U);
  for (const bool share : {true, false}) {
    const auto prefill = worker(api::Role::Prefill);
    const auto decode = worker(api::Role::Decode, {.share_memory = share});
    const Answer answer = generate(*decode, prefill->url());
    EXPECT_EQ(answer.finish.message, "");
    EXPECT_EQ(answer.tokens, expected.tokens);
    EXPECT_TRUE(contains(
        get(*decode, "/metrics").body,
        "pleiad_kv_transfer_seconds_count{"
        "model_name=\"fable\",engine=\"0\"} 1"
    ));
    EXPECT_TRUE(contains(
        get(*prefill, "/metrics").body,
        "pleiad_kv_transfer_seconds_count{"
        "model_name=\"fable\",engine=\"0\"} 1"
    ));
  }
}

TEST(ServeInstance, APrefillWorkerThatIsNoneOrNotThereIsNamed) {
  const auto decode = worker(api::Role::Decode);
  const auto alone = worker(api::Role::Both);
  const Answer none = generate(*decode, alone->url());
  EXPECT_EQ(none.finish.reason, api::FinishReason::Lost);
  EXPECT_TRUE(none.finish.prefill_lost);
  EXPECT_TRUE(contains(none.finish.message, alone->url() + ": this worker was not started with"));
  const Answer gone = generate(*decode, "http://127.0.0.1:1");
  EXPECT_TRUE(gone.finish.prefill_lost);
  EXPECT_TRUE(contains(gone.finish.message, "prefill worker http://127.0.0.1:1: "));
}

TEST(ServeInstance, ARoleWithoutASecretIsRefused) {
  ServeSettings settings = fable();
  settings.hand_over.role = api::Role::Prefill;
  EXPECT_TRUE(contains(refusal(settings), "--cluster-secret-file"));
}

}  // namespace
}  // namespace pleiad::apps
