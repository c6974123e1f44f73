// Tokens per second of a whole model through the engine: prefill of one prompt, and decoding of 1,
// 8 and 32 sequences at once. Decoding is shown with the bytes of weights each step reads and their
// share of the read bandwidth measured in the same program, before and after.
//
// usage: model_bench MODEL_FOLDER [PREFILL_TOKENS [DECODE_TOKENS]]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <fmt/core.h>

#include "base/random.h"
#include "bench/kernels/machine.h"
#include "engine/engine.h"
#include "engine/load.h"
#include "model/tensor_role.h"
#include "tests/engine/engine_harness.h"
#include "weights/checkpoint.h"

namespace pleiad::bench {
namespace {

constexpr double kGiga = 1e9;

struct Settings {
  std::string model;
  std::size_t prefill_tokens = 512;
  std::int32_t decode_tokens = 64;
};

std::vector<TokenId> random_prompt(Random& random, std::size_t length, std::int64_t vocabulary) {
  std::vector<TokenId> prompt(length);
  for (TokenId& token : prompt) {
    token = static_cast<TokenId>(random.below(static_cast<std::uint64_t>(vocabulary)));
  }
  return prompt;
}

struct Run {
  double first_token_seconds = 0.0;  // until every sequence has its first token
  double decode_seconds = 0.0;       // from there to the end
};

// Decodes `sequences` prompts together; each is `prompt_tokens` long.
Run run(
    engine::EngineHarness& harness,
    std::size_t sequences,
    std::size_t prompt_tokens,
    std::int32_t output_tokens,
    Random& random
) {
  std::vector<engine::RecordingSink> sinks(sequences);
  const std::int64_t vocabulary = harness.engine->limits().vocabulary;
  const Nanoseconds begin = harness.clock.now();
  for (auto& sink : sinks) {
    const auto submitted = harness.engine->submit(
        {.prompt = random_prompt(random, prompt_tokens, vocabulary),
         .max_tokens = output_tokens,
         .sampling = {.temperature = 0.0F},
         .ignore_eos = true},
        sink
    );
    PLEIAD_CHECK(submitted.ok());
  }
  for (auto& sink : sinks)
    sink.wait_for_tokens(1);
  const Nanoseconds first = harness.clock.now();
  for (auto& sink : sinks)
    sink.wait();
  return {
      .first_token_seconds = to_seconds(first - begin),
      .decode_seconds = to_seconds(harness.clock.now() - first),
  };
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

// Bytes of weights that one decoding sequence reads per step: everything but the experts not
// chosen, whose tensors are packed as large as they are stored (BF16 or quantised).
double
active_bytes(const std::string& folder, double weight_bytes, const model::ModelShape& shape) {
  const auto checkpoint = weights::Checkpoint::open(folder).value();
  double experts = 0;
  for (const std::string& name : checkpoint->names()) {
    if (model::role_of(name, shape.cache.layers) != model::TensorRole::Experts) continue;
    experts += static_cast<double>(checkpoint->tensor(name).value().bytes.size());
  }
  const auto count = static_cast<double>(shape.moe.gate.experts);
  const auto chosen = static_cast<double>(shape.moe.gate.topk);
  return weight_bytes - experts * (count - chosen) / count;
}

int main_with(const Settings& settings) {
  engine::LoadSettings load{
      .model = settings.model,
      .dtype = engine::ComputeChoice::BFloat16,
      .max_model_len = 2048,
      .max_num_seqs = 32,
      .prefix_cache = false,
      .model_name = "bench",
  };
  engine::EngineHarness harness(load);
  const engine::LoadedModel& loaded = harness.ranks->model();
  const auto weight_bytes = static_cast<double>(loaded.weight_bytes);
  const double active = active_bytes(settings.model, weight_bytes, loaded.weights->shape());
  fmt::print(
      "{} on {}; weights {:.2f} GB, {:.3f} GB active per token; read {:.3f} s, pack {:.2f} s "
      "({:.2f} GB/s)\n",
      loaded.architecture,
      device::to_string(loaded.isa),
      weight_bytes / kGiga,
      active / kGiga,
      loaded.read_seconds,
      loaded.pack_seconds,
      weight_bytes / kGiga / loaded.pack_seconds
  );
  Random random(1);
  run(harness, 1, 64, 8, random);  // touches every page once

  constexpr int kRepetitions = 5;
  std::vector<double> prefill;
  for (int i = 0; i < kRepetitions; ++i) {
    prefill.push_back(run(harness, 1, settings.prefill_tokens, 1, random).first_token_seconds);
  }
  fmt::print(
      "prefill {} tokens: {:.0f} tok/s (median of {})\n",
      settings.prefill_tokens,
      static_cast<double>(settings.prefill_tokens) / median(prefill),
      kRepetitions
  );

  for (const std::size_t sequences : {std::size_t{1}, std::size_t{8}, std::size_t{32}}) {
    std::vector<double> seconds;
    for (int i = 0; i < kRepetitions; ++i) {
      seconds.push_back(run(harness, sequences, 32, settings.decode_tokens, random).decode_seconds);
    }
    const double steps = static_cast<double>(settings.decode_tokens - 1);
    const double step_seconds = median(seconds) / steps;
    fmt::print(
        "decode {:2} sequences: {:.1f} tok/s, {:.2f} ms a step",
        sequences,
        static_cast<double>(sequences) / step_seconds,
        step_seconds * 1e3
    );
    if (sequences == 1) {
      const double bandwidth = read_bandwidth(shared_pool());
      const double rate = active / step_seconds;
      fmt::print(
          ", {:.2f} GB/s = {:.0f} % of {:.1f} GB/s measured",
          rate / kGiga,
          100.0 * rate / bandwidth,
          bandwidth / kGiga
      );
    }
    fmt::print("\n");
  }
  return 0;
}

}  // namespace
}  // namespace pleiad::bench

int main(int argc, char** argv) {
  if (argc < 2 || argc > 4) {
    fmt::print(stderr, "usage: {} MODEL_FOLDER [PREFILL_TOKENS [DECODE_TOKENS]]\n", argv[0]);
    return 2;
  }
  pleiad::bench::Settings settings{.model = argv[1]};
  if (argc > 2) settings.prefill_tokens = std::strtoul(argv[2], nullptr, 10);
  if (argc > 3)
    settings.decode_tokens = static_cast<std::int32_t>(std::strtol(argv[3], nullptr, 10));
  return pleiad::bench::main_with(settings);
}
