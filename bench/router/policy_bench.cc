// What the policies give: a service of simulated workers (src/sim) under traffic with shared
// prefixes, in virtual time. Steps cost what DeepSeek-V2-Lite's were measured to cost on one H200
// (docs/measurements): 8 ms, 0.09 ms for each decoding row, 0.04 ms for each prompt token that is
// not in the cache. Same seed, same figures on any machine. Prints CSV.
//
// usage: router_policy_bench [REQUESTS] [SEEDS]
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include <fmt/core.h>

#include "base/check.h"
#include "base/log.h"
#include "base/random.h"
#include "router/router_core.h"
#include "sim/network.h"
#include "sim/stub_model.h"
#include "sim/timeline.h"

namespace pleiad::sim {
namespace {

constexpr std::size_t kWorkers = 16;
constexpr std::size_t kPrefixes = 128;
constexpr std::size_t kPrefixTokens = 2048;

// Zipf: prefix k is asked for in proportion to 1 / (k + 1). Hot: one prefix makes up most of the
// traffic, as an attack or a front page would.
struct Traffic {
  std::string name;
  double hot_share = 0.0;
};

struct Run {
  Traffic traffic;
  router::PolicyKind policy = router::PolicyKind::CacheAware;
  double requests_per_second = 0.0;
  int requests = 0;
  std::uint64_t seed = 0;
};

class Client final : public api::GenerationSink {
 public:
  Client(const Timeline& timeline, std::int64_t prompt_tokens)
      : timeline_(timeline), sent_(timeline.now()), prompt_tokens_(prompt_tokens) {}
  void on_prompt_token(const api::TokenEvent& /*event*/) override {}
  void on_token(const api::TokenEvent& /*event*/) override {
    if (seconds_ < 0.0) seconds_ = to_seconds(timeline_.now() - sent_);
  }
  void on_finish(const api::FinishEvent& event) override {
    PLEIAD_CHECK(event.reason == api::FinishReason::Length, event.message);
    cached_tokens_ = event.cached_tokens;
    done_ = true;
  }
  [[nodiscard]] bool done() const { return done_; }
  // To the first token.
  [[nodiscard]] double seconds() const { return seconds_; }
  [[nodiscard]] std::int64_t prompt_tokens() const { return prompt_tokens_; }
  [[nodiscard]] std::int64_t cached_tokens() const { return cached_tokens_; }

 private:
  const Timeline& timeline_;
  Nanoseconds sent_;
  std::int64_t prompt_tokens_;
  double seconds_ = -1.0;
  std::int64_t cached_tokens_ = 0;
  bool done_ = false;
};

// Draws prompts.
class Prompts {
 public:
  Prompts(Random& random, double hot_share) : random_(random), hot_share_(hot_share) {
    for (std::size_t i = 0; i < kPrefixes; ++i) {
      prefixes_.emplace_back();
      draw(prefixes_.back(), kPrefixTokens);
      sum_ += 1.0 / static_cast<double>(i + 1);
    }
  }
  std::vector<TokenId> next() {
    std::vector<TokenId> prompt = prefixes_[which()];
    draw(prompt, static_cast<std::size_t>(random_.between(64, 512)));
    return prompt;
  }

 private:
  std::size_t which() {
    if (random_.uniform() < hot_share_) return 0;
    double left = random_.uniform() * sum_;
    for (std::size_t i = 0; i + 1 < kPrefixes; ++i) {
      left -= 1.0 / static_cast<double>(i + 1);
      if (left < 0.0) return i;
    }
    return kPrefixes - 1;
  }
  void draw(std::vector<TokenId>& out, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      out.push_back(static_cast<TokenId>(1 + random_.below(kStubVocabulary - 1)));
    }
  }

  Random& random_;
  double hot_share_;
  double sum_ = 0.0;
  std::vector<std::vector<TokenId>> prefixes_;
};

class Service {
 public:
  explicit Service(const Run& run)
      : run_(run),
        random_(run.seed),
        network_(timeline_, core_, run.seed, {}),
        core_(timeline_, network_, {.policy = {.kind = run.policy}, .seed = run.seed}),
        prompts_(random_, run.traffic.hot_share) {
    for (std::size_t i = 0; i < kWorkers; ++i) {
      const std::size_t host = network_.add_host(
          fmt::format("http://worker{}", i),
          {.scheduler =
               {.pages = 1536,
                .running_max = 128,
                .waiting_max = 4096,
                .step_tokens_max = 1024,
                .chunk_tokens_max = 1024,
                .logit_rows_max = 128,
                .sequence_tokens_max = 8192},
           .cost =
               {.fixed = std::chrono::milliseconds(8),
                .per_prompt_token = std::chrono::microseconds(40),
                .per_decoding_row = std::chrono::microseconds(90)}}
      );
      network_.start(host);
      network_.watch(core_.add_worker(network_.host(host).url).value(), host);
    }
  }

  std::string run() {
    arrange(std::chrono::seconds(1));
    std::size_t done = 0;
    while (done < static_cast<std::size_t>(run_.requests)) {
      PLEIAD_CHECK(timeline_.step());
      while (done < clients_.size() && clients_[done]->done()) {
        ++done;
      }
    }
    return row();
  }

 private:
  void arrange(Nanoseconds from) {
    timeline_.at(from, [this] {
      const std::vector<TokenId> prompt = prompts_.next();
      clients_.push_back(
          std::make_unique<Client>(timeline_, static_cast<std::int64_t>(prompt.size()))
      );
      core_.submit(
          api::RequestId(clients_.size()),
          {.prompt = prompt,
           .max_tokens = static_cast<std::int32_t>(random_.between(16, 128)),
           .ignore_eos = true},
          *clients_.back()
      );
      if (clients_.size() >= static_cast<std::size_t>(run_.requests)) return;
      const double gap = -std::log(1.0 - random_.uniform()) / run_.requests_per_second;
      arrange(timeline_.now() + Nanoseconds{static_cast<std::int64_t>(gap * 1e9)});
    });
  }

  // The first fifth, in which caches fill, does not count.
  [[nodiscard]] std::string row() const {
    std::vector<double> seconds;
    double prompt = 0.0;
    double cached = 0.0;
    for (std::size_t i = clients_.size() / 5; i < clients_.size(); ++i) {
      seconds.push_back(clients_[i]->seconds());
      prompt += static_cast<double>(clients_[i]->prompt_tokens());
      cached += static_cast<double>(clients_[i]->cached_tokens());
    }
    std::ranges::sort(seconds);
    double busiest = 0.0;
    double sum = 0.0;
    for (std::size_t i = 0; i < kWorkers; ++i) {
      const auto stats = network_.host(i).worker->scheduler(0).stats();
      const auto queried = static_cast<double>(stats.prefix_queried_tokens);
      busiest = std::max(busiest, queried);
      sum += queried;
    }
    return fmt::format(
        "{},{},{:.0f},{},{:.1f},{:.1f},{:.4f},{:.3f}",
        run_.traffic.name,
        router::to_string(run_.policy),
        run_.requests_per_second,
        run_.seed,
        1e3 * seconds[seconds.size() / 2],
        1e3 * seconds[seconds.size() * 99 / 100],
        cached / prompt,
        busiest * static_cast<double>(kWorkers) / sum
    );
  }

  Run run_;
  Random random_;
  Timeline timeline_;
  SimNetwork network_;
  router::RouterCore core_;
  Prompts prompts_;
  std::vector<std::unique_ptr<Client>> clients_;
};

void main_with(int requests, std::uint64_t seeds) {
  constexpr router::PolicyKind kPolicies[] = {
      router::PolicyKind::CacheAware,
      router::PolicyKind::PowerOfTwo,
      router::PolicyKind::LeastTokens,
      router::PolicyKind::RoundRobin,
      router::PolicyKind::Random,
  };
  fmt::print("traffic,policy,requests_per_second,seed,ttft_p50_ms,ttft_p99_ms,hit_rate,busiest\n");
  for (const Traffic& traffic : {Traffic{"zipf"}, Traffic{"hot", 0.8}}) {
    for (const double rate : {100.0, 200.0, 300.0, 400.0}) {
      for (const router::PolicyKind policy : kPolicies) {
        for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
          Service service({traffic, policy, rate, requests, seed});
          fmt::print("{}\n", service.run());
          std::fflush(stdout);
        }
      }
    }
  }
}

}  // namespace
}  // namespace pleiad::sim

int main(int argc, char** argv) {
  pleiad::set_log_level(pleiad::LogLevel::Error);
  const int requests = argc > 1 ? std::atoi(argv[1]) : 4000;
  const int seeds = argc > 2 ? std::atoi(argv[2]) : 3;
  pleiad::sim::main_with(requests, static_cast<std::uint64_t>(seeds));
  return 0;
}
