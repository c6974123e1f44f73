// What one request costs the router's core: from a tokenised prompt of 4096 tokens to the worker it
// is sent to, over 256 workers of 8 dp ranks whose caches are thought full, and what its end costs.
#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <benchmark/benchmark.h>

#include "base/check.h"
#include "base/log.h"
#include "base/random.h"
#include "router/router_core.h"

namespace pleiad::router {
namespace {

constexpr int kWorkers = 256;
constexpr std::size_t kDpRanks = 8;
constexpr std::int64_t kPagesOfRank = 512;
constexpr std::size_t kPromptTokens = 4096;
constexpr std::size_t kOpen = 4096;  // requests under way

class NoLink final : public WorkerLink {
 public:
  void send(AttemptId /*attempt*/, const Worker& /*worker*/, const api::SubmitMessage& /*message*/)
      override {}
  void hang_up(AttemptId /*attempt*/) override {}
  void finish(AttemptId /*attempt*/, const Worker& /*worker*/, api::RequestId /*remote*/) override {
  }
};

class NoSink final : public api::GenerationSink {
 public:
  void on_prompt_token(const api::TokenEvent& /*event*/) override {}
  void on_token(const api::TokenEvent& /*event*/) override {}
  void on_finish(const api::FinishEvent& /*event*/) override {}
};

// Prompts that share the first `shared` of their tokens with many others.
class Prompts {
 public:
  Prompts(std::size_t groups, std::size_t shared) : random_(1), prefixes_(groups) {
    for (auto& prefix : prefixes_) {
      draw(prefix, shared);
    }
  }
  std::vector<TokenId> next() {
    std::vector<TokenId> prompt;
    prompt.reserve(kPromptTokens + 1024);
    prompt = prefixes_[random_.below(prefixes_.size())];
    draw(prompt, kPromptTokens - prompt.size());
    return prompt;
  }

 private:
  void draw(std::vector<TokenId>& out, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      out.push_back(static_cast<TokenId>(random_.below(100'000)));
    }
  }

  Random random_;
  std::vector<std::vector<TokenId>> prefixes_;
};

// A core with requests under way and every rank's cache full of prompts like those to come.
class Stage {
 public:
  Stage(PolicyKind policy, Prompts prompts)
      : prompts_(std::move(prompts)),
        core_(clock_, link_, {.policy = {.kind = policy}, .seed = 1}) {
    for (int i = 0; i < kWorkers; ++i) {
      const auto worker = core_.add_worker("http://worker" + std::to_string(i)).value();
      core_.on_report(
          worker,
          api::WorkerReport{
              .instance = "a",
              .limits = {.vocabulary = 100'000, .model_tokens_max = 1 << 20},
              .accepting = true,
              .ranks = std::vector<api::GeneratorStatus>(
                  kDpRanks, {.accepting = true, .pages_total = kPagesOfRank}
              )}
      );
    }
    const std::size_t fills = kWorkers * kDpRanks * kPagesOfRank / (kPromptTokens / kPageTokens);
    for (std::size_t i = 0; i < fills + kOpen; ++i) {
      submit(request());
      if (core_.open_requests() > kOpen) end_oldest();
    }
  }

  api::GenerationRequest request() { return {.prompt = prompts_.next(), .max_tokens = 256}; }
  void submit(api::GenerationRequest request) {
    core_.submit(api::RequestId(next_++), std::move(request), sink_);
  }
  void end_oldest() { core_.cancel(api::RequestId(oldest_++)); }
  RouterCore& core() { return core_; }

 private:
  FakeClock clock_;
  NoLink link_;
  NoSink sink_;
  Prompts prompts_;
  RouterCore core_;
  std::uint64_t next_ = 1;
  std::uint64_t oldest_ = 1;
};

template <typename Task>
double seconds_of(Task&& task) {
  const SystemClock clock;
  const Nanoseconds begin = clock.now();
  task();
  return to_seconds(clock.now() - begin);
}

// Each iteration's time by itself: what else the machine does shows in the tail and not in the
// median.
class Times {
 public:
  explicit Times(benchmark::State& state) : state_(state) {}
  template <typename Task>
  void measure(Task&& task) {
    seconds_.push_back(seconds_of(task));
    state_.SetIterationTime(seconds_.back());
  }
  ~Times() {
    std::ranges::sort(seconds_);
    state_.counters["p50_us"] = 1e6 * seconds_[seconds_.size() / 2];
    state_.counters["p99_us"] = 1e6 * seconds_[seconds_.size() * 99 / 100];
  }

 private:
  benchmark::State& state_;
  std::vector<double> seconds_;
};

void decide(benchmark::State& state, PolicyKind policy, Prompts prompts) {
  Stage stage(policy, std::move(prompts));
  Times times(state);
  for (auto _ : state) {
    api::GenerationRequest request = stage.request();
    times.measure([&] { stage.submit(std::move(request)); });
    stage.end_oldest();
  }
}

void end_request(benchmark::State& state) {
  Stage stage(PolicyKind::CacheAware, Prompts(256, 2048));
  Times times(state);
  for (auto _ : state) {
    stage.submit(stage.request());
    times.measure([&] { stage.end_oldest(); });
  }
}

void summary(benchmark::State& state) {
  Stage stage(PolicyKind::CacheAware, Prompts(256, 2048));
  for (auto _ : state) {
    benchmark::DoNotOptimize(stage.core().summary());
  }
}

void report(benchmark::State& state) {
  Stage stage(PolicyKind::CacheAware, Prompts(256, 2048));
  WorkerIndex worker = 0;
  Times times(state);
  for (auto _ : state) {
    api::WorkerReport report = stage.core().table().workers()[worker].report;
    times.measure([&] { stage.core().on_report(worker, std::move(report)); });
    worker = (worker + 1) % kWorkers;
  }
}

void many_prefixes(benchmark::State& state, PolicyKind policy) {
  decide(state, policy, Prompts(256, 2048));
}
// One prompt that every unit has had.
void one_prefix(benchmark::State& state, PolicyKind policy) {
  decide(state, policy, Prompts(1, 4032));
}

BENCHMARK_CAPTURE(many_prefixes, cache_aware, PolicyKind::CacheAware)
    ->UseManualTime()
    ->Iterations(20000)
    ->Repetitions(3);
BENCHMARK_CAPTURE(many_prefixes, power_of_two, PolicyKind::PowerOfTwo)
    ->UseManualTime()
    ->Iterations(20000)
    ->Repetitions(3);
BENCHMARK_CAPTURE(many_prefixes, least_tokens, PolicyKind::LeastTokens)
    ->UseManualTime()
    ->Iterations(20000)
    ->Repetitions(3);
BENCHMARK_CAPTURE(many_prefixes, round_robin, PolicyKind::RoundRobin)
    ->UseManualTime()
    ->Iterations(20000)
    ->Repetitions(3);
BENCHMARK_CAPTURE(many_prefixes, random, PolicyKind::Random)
    ->UseManualTime()
    ->Iterations(20000)
    ->Repetitions(3);
BENCHMARK_CAPTURE(one_prefix, cache_aware, PolicyKind::CacheAware)
    ->UseManualTime()
    ->Iterations(20000)
    ->Repetitions(3);
BENCHMARK_CAPTURE(one_prefix, round_robin, PolicyKind::RoundRobin)
    ->UseManualTime()
    ->Iterations(20000)
    ->Repetitions(3);
BENCHMARK(end_request)->UseManualTime()->Iterations(20000)->Repetitions(3);
BENCHMARK(report)->UseManualTime()->Iterations(20000)->Repetitions(3);
BENCHMARK(summary)->Iterations(2000)->Repetitions(3);

}  // namespace
}  // namespace pleiad::router

int main(int argc, char** argv) {
  pleiad::set_log_level(pleiad::LogLevel::Error);
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
