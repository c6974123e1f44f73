// usage: handover_bench MODEL [TOKENS] [RUNS]
// What handing a prompt over costs beside computing it, and how fast keys and values travel beside
// a plain copy and a plain TCP connection, all measured in the same run: a prefill and a decode
// worker over real connections, in one process.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include <fmt/core.h>

#include "api/generation_stream.h"
#include "api/generation_wire.h"
#include "apps/serve_instance.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/random.h"
#include "bench/comm/loopback.h"
#include "net/http_client.h"

namespace pleiad {
namespace {

constexpr double kMega = 1e6;

std::unique_ptr<apps::ServeInstance>
start(const std::string& model, api::Role role, bool share_memory, std::int64_t tokens) {
  apps::ServeSettings settings{.port = 0, .cluster_secret = "bench"};
  settings.load.model = model;
  settings.load.max_model_len = tokens + 64;
  settings.load.max_num_seqs = 4;
  settings.load.kv_cache_bytes = std::size_t{512} << 20U;
  // The decode worker fetches every prompt whole, again and again.
  settings.load.prefix_cache = role == api::Role::Prefill;
  settings.text.skip_tokenizer = true;
  settings.hand_over = {.role = role, .share_memory = share_memory};
  auto started = apps::ServeInstance::start(std::move(settings));
  PLEIAD_CHECK(started.ok(), started.ok() ? "" : started.error().message);
  return std::move(*started);
}

class NoTokens final : public api::GenerationSink {
 public:
  void on_prompt_token(const api::TokenEvent& /*event*/) override {}
  void on_token(const api::TokenEvent& /*event*/) override {}
  void on_finish(const api::FinishEvent& event) override {
    PLEIAD_CHECK(event.reason == api::FinishReason::Length, event.message);
  }
};

// Seconds until a worker has answered with the first token.
double first_token(
    const apps::ServeInstance& worker,
    const std::vector<TokenId>& prompt,
    const std::string& prefill_url
) {
  api::SubmitMessage message{.request = {.prompt = prompt, .max_tokens = 1, .ignore_eos = true}};
  if (!prefill_url.empty()) message.request.prefill_from = api::PrefillFrom{.url = prefill_url};
  const auto bytes = api::encode(message);
  const SystemClock clock;
  const Nanoseconds begin = clock.now();
  const auto answer = net::http_fetch(
      {.method = "POST",
       .url = net::parse_url(worker.url() + "/internal/generate").value(),
       .headers = {{"Authorization", "Bearer bench"}},
       .body = std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size())}
  );
  const double seconds = to_seconds(clock.now() - begin);
  PLEIAD_CHECK(answer.ok() && answer->status == 200);
  NoTokens sink;
  PLEIAD_CHECK(api::GenerationStreamReader(sink).feed(answer->body).ok());
  return seconds;
}

double metric(const apps::ServeInstance& worker, const std::string& name) {
  const auto answer =
      net::http_fetch({.url = net::parse_url(worker.url() + "/metrics").value()}).value();
  const std::size_t at = answer.body.find("\n" + name + "{");
  PLEIAD_CHECK(at != std::string::npos);
  const std::size_t number = answer.body.find("} ", at) + 2;
  return std::strtod(answer.body.c_str() + number, nullptr);
}

std::vector<TokenId> random_prompt(Random& random, std::int64_t tokens) {
  std::vector<TokenId> prompt(static_cast<std::size_t>(tokens));
  for (TokenId& token : prompt)
    token = static_cast<TokenId>(6 + random.below(1000));
  return prompt;
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

void measure(const std::string& model, std::int64_t tokens, int runs, bool share_memory) {
  const auto prefill = start(model, api::Role::Prefill, /*share_memory=*/true, tokens);
  const auto decode = start(model, api::Role::Decode, share_memory, tokens);
  Random random(1);
  first_token(*decode, random_prompt(random, 200), prefill->url());
  std::vector<double> alone;
  std::vector<double> handed_over;
  std::vector<double> bandwidth;
  for (int run = 0; run < runs; ++run) {
    alone.push_back(first_token(*prefill, random_prompt(random, tokens), ""));
    const auto prompt = random_prompt(random, tokens);
    handed_over.push_back(first_token(*decode, prompt, prefill->url()));
    // Computed already: what is left is the way.
    const double seconds = metric(*decode, "pleiad_kv_transfer_seconds_sum");
    const double bytes = metric(*decode, "pleiad_kv_transfer_bytes_total");
    first_token(*decode, prompt, prefill->url());
    bandwidth.push_back(
        (metric(*decode, "pleiad_kv_transfer_bytes_total") - bytes) /
        (metric(*decode, "pleiad_kv_transfer_seconds_sum") - seconds)
    );
  }
  constexpr std::size_t kCopied = std::size_t{64} << 20U;
  constexpr std::size_t kSent = std::size_t{256} << 10U;
  const double limit =
      share_memory ? bench::memcpy_bandwidth(kCopied) : bench::measure_loopback(kSent).bandwidth;
  const double added = median(handed_over) - median(alone);
  fmt::print(
      "{:13} first token after {:.3f} s, {:.3f} s by one worker: {:+.1f} %; {:.0f} MB/s, {:.0f} % "
      "of "
      "{}'s {:.0f}\n",
      share_memory ? "shared memory" : "TCP",
      median(handed_over),
      median(alone),
      100.0 * added / median(alone),
      median(bandwidth) / kMega,
      100.0 * median(bandwidth) / limit,
      share_memory ? "memcpy" : "loopback",
      limit / kMega
  );
}

int run(int count, char** words) {
  if (count < 2) {
    fmt::print(stderr, "usage: {} MODEL [TOKENS] [RUNS]\n", words[0]);
    return 2;
  }
  const std::int64_t tokens = count > 2 ? std::atoll(words[2]) : 4000;
  const int runs = count > 3 ? std::atoi(words[3]) : 3;
  fmt::print("hand-over of {} tokens, median of {} runs\n", tokens, runs);
  for (const bool share_memory : {true, false}) {
    measure(words[1], tokens, runs, share_memory);
  }
  return 0;
}

}  // namespace
}  // namespace pleiad

int main(int count, char** words) {
  return pleiad::run(count, words);
}
