// Decode steps of a model over ranks of one process (threads), for several ep_size, levels, rows a
// rank and two tp_size: time and bytes on the wire beside what plan/cost_model.h predicts from
// constants measured in the same program: one core's read bandwidth and products, messages between
// two threads, and, from steps of one rank, what steps and rows cost beside these and what all
// cores read together.
//
// usage: ep_bench MODEL_FOLDER [DECODE_TOKENS]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include <fmt/core.h>

#include "apps/model_facts_reader.h"
#include "base/random.h"
#include "bench/engine/rank_constants.h"
#include "plan/cost_model.h"
#include "tests/engine/engine_harness.h"

namespace pleiad::bench {
namespace {

struct Measured {
  double step_seconds = 0.0;
  double wire_bytes = 0.0;
};

double wire_bytes(const engine::RankSet& ranks) {
  double bytes = 0.0;
  for (const auto& engine : ranks.engines()) {
    const ep::EpStats& stats = engine->ep_stats();
    bytes += static_cast<double>(stats.dispatch_bytes.load() + stats.combine_bytes.load());
  }
  return bytes;
}

// When each token of a sequence came, and the bytes that all ranks had sent by then.
class TimedSink final : public api::GenerationSink {
 public:
  struct Arrival {
    Nanoseconds at{};
    double bytes = 0.0;
  };

  TimedSink(const engine::EngineHarness& harness, std::int32_t tokens) : harness_(harness) {
    arrivals_.reserve(static_cast<std::size_t>(tokens));
  }

  void on_prompt_token(const api::TokenEvent& /*event*/) override {}
  void on_token(const api::TokenEvent& /*event*/) override {
    arrivals_.push_back({harness_.clock.now(), wire_bytes(*harness_.ranks)});
  }
  void on_finish(const api::FinishEvent& /*event*/) override { finished_.set_value(); }

  const std::vector<Arrival>& wait() {
    done_.wait();
    return arrivals_;
  }

 private:
  const engine::EngineHarness& harness_;
  std::vector<Arrival> arrivals_;  // written by the engine's thread until finished_
  std::promise<void> finished_;
  std::shared_future<void> done_ = finished_.get_future().share();
};

Measured decode(engine::EngineHarness& harness, std::size_t sequences, std::int32_t tokens) {
  Random random(1);
  const auto vocabulary = static_cast<std::uint64_t>(harness.engine->limits().vocabulary);
  std::vector<std::unique_ptr<TimedSink>> sinks;
  for (std::size_t i = 0; i < sequences; ++i) {
    sinks.push_back(std::make_unique<TimedSink>(harness, tokens));
    std::vector<TokenId> prompt(16);
    for (TokenId& token : prompt) {
      token = static_cast<TokenId>(random.below(vocabulary));
    }
    PLEIAD_CHECK(harness.balancer
                     ->submit(
                         {.prompt = std::move(prompt), .max_tokens = tokens, .ignore_eos = true},
                         *sinks.back()
                     )
                     .ok());
  }
  // Steps in which every sequence decodes, as the first one saw them.
  Nanoseconds begin{};
  Nanoseconds end = Nanoseconds::max();
  for (const auto& sink : sinks) {
    begin = std::max(begin, sink->wait().front().at);
    end = std::min(end, sink->wait().back().at);
  }
  const auto& arrivals = sinks.front()->wait();
  const auto first = std::ranges::lower_bound(arrivals, begin, {}, &TimedSink::Arrival::at);
  const auto last = std::ranges::upper_bound(arrivals, end, {}, &TimedSink::Arrival::at) - 1;
  const auto steps = static_cast<double>(last - first);
  PLEIAD_CHECK(steps >= 1.0, "sequences must decode together for a while");
  return {
      .step_seconds = to_seconds(last->at - first->at) / steps,
      .wire_bytes = (last->bytes - first->bytes) / steps,
  };
}

// The middle of three runs.
Measured
median_decode(engine::EngineHarness& harness, std::int64_t sequences, std::int32_t tokens) {
  std::vector<Measured> runs;
  for (int i = 0; i < 3; ++i) {
    runs.push_back(decode(harness, static_cast<std::size_t>(sequences), tokens));
  }
  std::ranges::sort(runs, {}, &Measured::step_seconds);
  return runs[1];
}

engine::LoadSettings settings_of(
    const std::string& folder,
    std::int32_t ep_size,
    plan::EpLevel level,
    std::int32_t tp_size = 1
) {
  engine::LoadSettings load{
      .model = folder,
      .dtype = engine::ComputeChoice::BFloat16,
      .max_model_len = 512,
      .max_num_seqs = 16,
      .max_num_batched_tokens = 64,
      .chunked_prefill_size = 64,
      .kv_cache_bytes = std::size_t{512} << 20U,
      .prefix_cache = false,
      .model_name = "bench",
      .layout = {.tp_size = tp_size, .dp_size = ep_size / tp_size, .ep_size = ep_size},
  };
  load.ep.level = level;
  return load;
}

double
step_of_one_rank(const std::string& folder, int threads, std::int64_t rows, std::int32_t tokens) {
  engine::LoadSettings load = settings_of(folder, 1, plan::EpLevel::AllGather);
  load.threads = threads;
  engine::EngineHarness harness(load);
  const double seconds = median_decode(harness, rows, tokens).step_seconds;
  fmt::print("one rank, {} threads, {} rows: step {:.3f} ms\n", threads, rows, seconds * 1e3);
  return seconds;
}

// What only steps of the model tell, all of one rank: how much faster its weights are read by all
// cores than by one, and what steps and rows cost beside weights and products.
void calibrate(
    RankConstants& constants,
    const std::string& folder,
    const plan::ModelFacts& facts,
    std::int32_t tokens
) {
  const auto layout = plan::plan_layout({}).value();
  const auto predicted = [&](std::int64_t rows) {
    return plan::CostModel::make(facts, layout, {}, constants.on_one_core())
        .value()
        .even_step(plan::EpLevel::AllGather, rows)
        .seconds();
  };
  const double one = step_of_one_rank(folder, 1, 1, tokens);
  const double four = step_of_one_rank(folder, 1, 4, tokens);
  const double one_on_all = step_of_one_rank(folder, static_cast<int>(constants.cores), 1, tokens);
  // A step that is faster than reading in a loop: prefetching was better.
  constants.core_read_bandwidth *= std::max(1.0, predicted(1) / one);
  constants.read_bandwidth =
      constants.core_read_bandwidth * std::clamp(one / one_on_all, 1.0, constants.cores);
  const double rest_of_one = one - predicted(1);
  const double rest_of_four = four - predicted(4);
  constants.row_seconds = std::max(0.0, (rest_of_four - rest_of_one) / 3.0);
  constants.step_seconds = std::max(0.0, rest_of_one - constants.row_seconds);
}

void compare(
    const engine::LoadSettings& load,
    const plan::ModelFacts& facts,
    const plan::MachineConstants& machine,
    std::int32_t tokens
) {
  engine::EngineHarness harness(load);
  const auto model = plan::CostModel::make(facts, load.layout, load.ep, machine).value();
  for (const std::int64_t rows : {1, 4}) {
    const Measured median = median_decode(harness, rows * load.layout.dp_size, tokens);
    const auto predicted = model.even_step(load.ep.level, rows);
    fmt::print(
        "tp {}  ep {:2}  level {}  {:2} rows a dp rank: step {:8.3f} ms, predicted {:8.3f} "
        "({:+.0f} %); wire "
        "{:9.0f} B, predicted {:9.0f} ({:+.0f} %)\n",
        load.layout.tp_size,
        load.layout.ep_size,
        load.ep.level == plan::EpLevel::AllGather ? 1 : 2,
        rows,
        median.step_seconds * 1e3,
        predicted.seconds() * 1e3,
        100.0 * (predicted.seconds() / median.step_seconds - 1.0),
        median.wire_bytes,
        predicted.wire_bytes,
        median.wire_bytes == 0.0 ? 0.0 : 100.0 * (predicted.wire_bytes / median.wire_bytes - 1.0)
    );
  }
}

int main_with(const std::string& folder, std::int32_t tokens) {
  const auto facts = apps::read_model_facts({.model = folder});
  if (!facts.ok()) {
    fmt::print(stderr, "ep_bench: {}\n", facts.error().message);
    return 1;
  }
  RankConstants constants = measure_rank_constants();
  calibrate(constants, folder, *facts, tokens);
  fmt::print(
      "{}: read {:.1f} GB/s ({:.1f} by one core), products {:.1f} GFLOP/s a core, a message {:.1f} "
      "us, until a rank goes on {:.1f} us, link {:.2f} GB/s, a step {:.3f} ms, a row {:.3f} ms\n",
      facts->name,
      constants.read_bandwidth * 1e-9,
      constants.core_read_bandwidth * 1e-9,
      constants.core_flops * 1e-9,
      constants.message_seconds * 1e6,
      constants.latency_seconds * 1e6,
      constants.link_bandwidth * 1e-9,
      constants.step_seconds * 1e3,
      constants.row_seconds * 1e3
  );
  for (const std::int32_t ep : {1, 2, 4, 8}) {
    for (const auto level : {plan::EpLevel::AllGather, plan::EpLevel::AllToAll}) {
      if (ep == 1 && level == plan::EpLevel::AllToAll) continue;
      compare(settings_of(folder, ep, level), *facts, constants.of_ranks(ep), tokens);
    }
  }
  for (const std::int32_t ep : {2, 4}) {
    const auto load = settings_of(folder, ep, plan::EpLevel::AllGather, 2);
    compare(load, *facts, constants.of_ranks(ep), tokens);
  }
  return 0;
}

}  // namespace
}  // namespace pleiad::bench

int main(int argc, char** argv) {
  if (argc < 2 || argc > 3) {
    fmt::print(stderr, "usage: ep_bench MODEL_FOLDER [DECODE_TOKENS]\n");
    return 2;
  }
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  const int tokens = argc == 3 ? std::atoi(argv[2]) : 64;
  return pleiad::bench::main_with(argv[1], std::clamp(tokens, 16, 400));
}
