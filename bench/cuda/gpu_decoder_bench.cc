// Steps of whole models on a GPU, with noise for weights: tokens per second of decoding and of
// prompts, tokens drawn on the GPU. usage: gpu_decoder_bench MODEL_FOLDER_WITH_CONFIG CONTEXT
// [ROWS] With ROWS: one step of so many, to profile (ncu --profile-from-start off).
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <numeric>
#include <string>
#include <vector>

#include <cuda_profiler_api.h>
#include <fmt/core.h>

#include "base/clock.h"
#include "base/random.h"
#include "model/cuda/gpu_decoder.h"

namespace pleiad::model {
namespace {

constexpr int kSteps = 20;

// A rank with its cache, and steps of it.
class Trial {
 public:
  Trial(const Json& config, std::int64_t context) : context_(context) {
    const auto described = find_architecture(config).value()->describe(config).value();
    weights_ = cuda::make_dummy_gpu_decoder(described, Compute::BFloat16, 0).value();
    model_ = weights_
                 ->make_rank(
                     {.context = {.pool = &pool_, .compute = Compute::BFloat16},
                      .limits =
                          {.rows_max = kRowsMax,
                           .logit_rows_max = kSequences,
                           .context_max = std::max(context + 64, kRowsMax)}}
                 )
                 .value();
    pages_ = (std::max(context + 64, std::int64_t{1024}) + 63) / 64;
    cache_ = weights_->make_cache(std::max(kSequences * pages_, kRowsMax / 64)).value();
    for (std::int64_t s = 0; s < kSequences; ++s) {
      std::vector<std::uint32_t> table(static_cast<std::size_t>(pages_));
      std::iota(table.begin(), table.end(), static_cast<std::uint32_t>(s * pages_));
      tables_.push_back(std::move(table));
    }
    whole_.resize(static_cast<std::size_t>(kRowsMax / 64));
    std::iota(whole_.begin(), whole_.end(), 0U);
    logits_.resize(static_cast<std::size_t>(kSequences * model_->shape().vocabulary));
  }

  // Median milliseconds of a decode step of `batch` sequences.
  double decode(std::int64_t batch) {
    return median([&] { step(batch, false); });
  }
  // Median milliseconds of a prompt of `rows` tokens in one step.
  double prompt(std::int64_t rows) {
    return median([&] { step(rows, true); });
  }

  // One step for a profiler that waits for the program's word.
  void once(std::int64_t rows) {
    step(rows, rows > kSequences);
    static_cast<void>(cudaProfilerStart());
    step(rows, rows > kSequences);
    static_cast<void>(cudaProfilerStop());
  }

  static constexpr std::int64_t kRowsMax = 8192;
  static constexpr std::int64_t kSequences = 128;

 private:
  template <typename Step>
  double median(const Step& step) {
    std::vector<double> times;
    for (int i = 0; i < kSteps + 3; ++i) {
      const Nanoseconds begin = clock_.now();
      step();
      if (i >= 3) times.push_back(to_seconds(clock_.now() - begin) * 1e3);
    }
    std::ranges::sort(times);
    return times[times.size() / 2];
  }

  void step(std::int64_t rows, bool one_sequence) {
    std::vector<TokenId> tokens;
    std::vector<std::int64_t> positions;
    std::vector<AttentionRow> places;
    std::vector<std::int32_t> logit_rows;
    for (std::int64_t r = 0; r < rows; ++r) {
      tokens.push_back(static_cast<TokenId>(
          random_.below(static_cast<std::uint64_t>(model_->shape().vocabulary))
      ));
      positions.push_back(one_sequence ? r : context_);
      const auto& table = one_sequence ? whole_ : tables_[static_cast<std::size_t>(r)];
      places.push_back({table.data(), positions.back()});
      if (!one_sequence || r + 1 == rows) logit_rows.push_back(static_cast<std::int32_t>(r));
    }
    const std::vector<Draw> draws(
        logit_rows.size(), {.wanted = true, .temperature = 1.0F, .uniform = random_.uniform()}
    );
    drawn_.resize(logit_rows.size());
    model_
        ->forward(
            {.tokens = tokens,
             .positions = positions,
             .rows = places,
             .logit_rows = logit_rows,
             .logits = logits_,
             .draws = draws,
             .drawn = drawn_},
            cache_
        )
        .value();
  }

  SystemClock clock_;
  Random random_{1};
  device::ThreadPool pool_{8};
  std::int64_t context_;
  std::int64_t pages_ = 0;
  std::unique_ptr<ModelWeights> weights_;
  std::unique_ptr<Model> model_;
  kv::PagedCache cache_;
  std::vector<std::vector<std::uint32_t>> tables_;
  std::vector<std::uint32_t> whole_;
  std::vector<float> logits_;
  std::vector<Drawn> drawn_;
};

int run(const char* folder, std::int64_t context, std::int64_t rows_once) {
  std::ifstream in(std::string(folder) + "/config.json");
  const std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  const Json config = parse_json(text).value();
  SystemClock clock;
  const Nanoseconds begin = clock.now();
  Trial trial(config, context);
  fmt::print("{}: ready in {:.1f} s\n", folder, to_seconds(clock.now() - begin));
  if (rows_once > 0) {
    trial.once(rows_once);
    return 0;
  }
  for (const std::int64_t batch : {1, 8, 32, 128}) {
    const double ms = trial.decode(batch);
    fmt::print(
        "decode, batch {:>4}, context {}: {:8.3f} ms, {:8.0f} tokens/s\n",
        batch,
        context,
        ms,
        static_cast<double>(batch) / ms * 1e3
    );
    std::fflush(stdout);
  }
  for (const std::int64_t rows : {512, 2048, 8192}) {
    const double ms = trial.prompt(rows);
    fmt::print(
        "prompt, {:>5} tokens: {:8.2f} ms, {:8.0f} tokens/s\n",
        rows,
        ms,
        static_cast<double>(rows) / ms * 1e3
    );
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace
}  // namespace pleiad::model

int main(int argc, char** argv) {
  if (argc != 3 && argc != 4) {
    std::fputs("usage: gpu_decoder_bench MODEL_FOLDER CONTEXT [ROWS]\n", stderr);
    return 2;
  }
  return pleiad::model::run(argv[1], std::atoll(argv[2]), argc == 4 ? std::atoll(argv[3]) : 0);
}
