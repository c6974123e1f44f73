// Also tests: gpu_weights.cc, weight_placer.cc, weight_upload.cc, weight_reader.cc
// Also tests: weight_readers.cc, products.cc, gpu_attention.cc, gpu_mlp.cc, draw_rows.cc

// Every golden checkpoint and the bundled model on the GPU, and that scheduling leaves no trace.
#include "model/cuda/gpu_decoder.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <numeric>

#include <gtest/gtest.h>
#include <unistd.h>

#include "base/random.h"
#include "model/checkpoint_quantizer.h"
#include "tests/model/model_harness.h"

namespace pleiad::model {
namespace {

constexpr double kFloat32Tolerance = 2e-3;   // of the range of the logits
constexpr double kBFloat16Tolerance = 0.05;  // likewise
// GPU against host: random weights of tiny models bring gates near ties, which rounding may turn.
constexpr double kTinyBFloat16Tolerance = 0.1;
constexpr double kRestatedTolerance = 0.02;  // quantised weights, GPU against host

HarnessOptions on_gpu(Compute compute = Compute::Float32) {
  return {.compute = compute, .gpu = 0};
}

std::string scientific(double value) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.1e", value);
  return text.data();
}

class GpuFamily : public testing::TestWithParam<std::string> {
 protected:
  [[nodiscard]] std::filesystem::path folder() const { return golden_folder() / GetParam(); }
  GoldenTensors golden_{folder() / "golden.safetensors"};
};

TEST_P(GpuFamily, LogitsAndGreedyTokensAreHuggingFacesInFloat32) {
  ModelHarness harness = ModelHarness::load(folder(), on_gpu());
  double worst = 0.0;
  for (int i = 0; i < 4; ++i) {
    const std::string prefix = std::to_string(i) + ".";
    const auto prompt = golden_.tokens(prefix + "input_ids");
    const double error =
        error_over_range(harness.logits(prompt), golden_.floats(prefix + "logits"));
    worst = std::max(worst, error);
    EXPECT_LE(error, kFloat32Tolerance) << prefix;
    EXPECT_EQ(harness.greedy(prompt, 16), golden_.tokens(prefix + "greedy")) << prefix;
  }
  RecordProperty("of_range", scientific(worst));
}

TEST_P(GpuFamily, BFloat16StaysNearTheHosts) {
  ModelHarness harness = ModelHarness::load(folder(), on_gpu(Compute::BFloat16));
  ModelHarness host = ModelHarness::load(folder(), {.compute = Compute::BFloat16});
  double worst = 0.0;
  for (int i = 0; i < 4; ++i) {
    const auto prompt = golden_.tokens(std::to_string(i) + ".input_ids");
    worst = std::max(worst, error_over_range(harness.logits(prompt), host.logits(prompt)));
  }
  EXPECT_LE(worst, kTinyBFloat16Tolerance);
  RecordProperty("of_range", scientific(worst));
}

TEST_P(GpuFamily, ChunksLeaveNoTrace) {
  const auto prompt = golden_.tokens("3.input_ids");
  for (const auto compute : {Compute::Float32, Compute::BFloat16}) {
    ModelHarness harness = ModelHarness::load(folder(), on_gpu(compute));
    const auto whole = harness.logits(prompt);
    for (const std::size_t chunk : {1U, 7U, 16U, 64U}) {
      EXPECT_EQ(harness.logits(prompt, chunk), whole) << "chunks of " << chunk;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Families,
    GpuFamily,
    testing::Values(
        "deepseek_v2",
        "deepseek_v3",
        "deepseek_v3_fp8",
        "glm4_moe",
        "gpt_oss",
        "kimi_k2",
        "mixtral",
        "qwen3_moe"
    ),
    [](const auto& family) { return family.param; }
);

class GpuFable : public testing::Test {
 protected:
  template <typename Check>
  void for_each_case(Check check) {
    for (const std::string kind : {"chat", "prompt"}) {
      for (int i = 0; golden_.contains(kind + std::to_string(i) + ".input_ids"); ++i) {
        check(kind + std::to_string(i) + ".");
      }
    }
  }
  [[nodiscard]] std::vector<float> reference_logits(const std::string& prefix) const {
    const bool all = golden_.contains(prefix + "logits");
    return golden_.floats(prefix + (all ? "logits" : "last_logits"));
  }

  GoldenTensors golden_{golden_folder() / "fable/reference.safetensors"};
};

TEST_F(GpuFable, LogitsAndGreedyTokensAreHuggingFacesInFloat32) {
  ModelHarness harness = ModelHarness::load(fable_folder(), on_gpu());
  double worst = 0.0;
  for_each_case([&](const std::string& prefix) {
    const auto prompt = golden_.tokens(prefix + "input_ids");
    const double error = error_over_range(harness.logits(prompt), reference_logits(prefix));
    worst = std::max(worst, error);
    EXPECT_LE(error, kFloat32Tolerance) << prefix;
    const auto expected = golden_.tokens(prefix + "greedy");
    EXPECT_EQ(harness.greedy(prompt, expected.size()), expected) << prefix;
  });
  RecordProperty("of_range", scientific(worst));
}

TEST_F(GpuFable, BFloat16StaysClose) {
  ModelHarness harness = ModelHarness::load(fable_folder(), on_gpu(Compute::BFloat16));
  double worst = 0.0;
  for_each_case([&](const std::string& prefix) {
    const auto prompt = golden_.tokens(prefix + "input_ids");
    worst = std::max(worst, error_over_range(harness.logits(prompt), reference_logits(prefix)));
  });
  EXPECT_LE(worst, kBFloat16Tolerance);
  RecordProperty("of_range", scientific(worst));
}

TEST_F(GpuFable, QuantisedWeightsGiveWhatTheHostMakesOfThem) {
  using weights::QuantScheme;
  const auto copy =
      std::filesystem::temp_directory_path() / ("pleiad-gpu-" + std::to_string(::getpid()));
  device::ThreadPool pool(2);
  for (const auto scheme : {QuantScheme::W8A8, QuantScheme::Fp8Block, QuantScheme::Int4Group32}) {
    const auto written =
        quantize_checkpoint(fable_folder(), copy, {.scheme = scheme, .pool = &pool});
    ASSERT_TRUE(written.ok()) << written.error().message;
    const auto prompt = golden_.tokens("prompt0.input_ids");
    ModelHarness harness = ModelHarness::load(copy, on_gpu());
    const auto expected = ModelHarness::load(copy).logits(prompt);
    std::filesystem::remove_all(copy);
    const double error = error_over_range(harness.logits(prompt), expected);
    EXPECT_LE(error, kRestatedTolerance);
    RecordProperty(std::string(weights::to_string(scheme)), scientific(error));
  }
}

Json config_of(const std::filesystem::path& folder) {
  std::ifstream in(folder / "config.json");
  const std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  return parse_json(text).value();
}

// Steps of several sequences, each at its own position, rows of a sequence together.
class Mix {
 public:
  static Mix of_fable(Compute compute) {
    Mix mix;
    const auto checkpoint = weights::Checkpoint::open(fable_folder()).value();
    const Json config = config_of(fable_folder());
    mix.start(
        find_architecture(config)
            .value()
            ->load(config, *checkpoint, {.pool = mix.pool_.get(), .compute = compute, .gpu = 0})
            .value(),
        compute
    );
    return mix;
  }
  // Noise for weights, in the shapes of `config`.
  static Mix of_noise(std::string_view config, Compute compute) {
    Mix mix;
    const Json json = parse_json(config).value();
    const auto described = find_architecture(json).value()->describe(json).value();
    mix.start(cuda::make_dummy_gpu_decoder(described, compute, 0).value(), compute);
    return mix;
  }

  struct Part {
    std::size_t sequence = 0;
    std::vector<TokenId> tokens;
    std::int64_t first = 0;
  };
  // Logits of every row, but for those whose draw is wanted.
  std::vector<float>
  run(const std::vector<Part>& parts, std::span<const Draw> draws = {}, std::span<Drawn> drawn = {}
  ) {
    std::vector<TokenId> tokens;
    std::vector<std::int64_t> positions;
    std::vector<AttentionRow> rows;
    for (const Part& part : parts) {
      for (std::size_t i = 0; i < part.tokens.size(); ++i) {
        tokens.push_back(part.tokens[i]);
        positions.push_back(part.first + static_cast<std::int64_t>(i));
        rows.push_back({tables_.at(part.sequence).data(), positions.back()});
      }
    }
    std::vector<std::int32_t> logit_rows(tokens.size());
    std::iota(logit_rows.begin(), logit_rows.end(), 0);
    std::vector<float> logits(tokens.size() * vocabulary(), std::nanf(""));
    model_
        ->forward(
            {.tokens = tokens,
             .positions = positions,
             .rows = rows,
             .logit_rows = logit_rows,
             .logits = logits,
             .draws = draws,
             .drawn = drawn},
            cache_
        )
        .value();
    return logits;
  }
  [[nodiscard]] std::size_t vocabulary() const {
    return static_cast<std::size_t>(model_->shape().vocabulary);
  }
  [[nodiscard]] const Model& model() const { return *model_; }

 private:
  static constexpr std::uint32_t kSequences = 32;
  static constexpr std::uint32_t kPages = 8;

  Mix() = default;
  void start(std::unique_ptr<ModelWeights> weights, Compute compute) {
    weights_ = std::move(weights);
    model_ = weights_
                 ->make_rank(
                     {.context = {.pool = pool_.get(), .compute = compute},
                      .limits = {.rows_max = 512, .logit_rows_max = 512, .context_max = 1024}}
                 )
                 .value();
    cache_ = weights_->make_cache(kSequences * kPages).value();
    for (std::uint32_t s = 0; s < kSequences; ++s) {
      for (std::uint32_t page = 0; page < kPages; ++page) {
        tables_.at(s).push_back(page * kSequences + (s * 5) % kSequences);
      }
    }
  }

  std::unique_ptr<device::ThreadPool> pool_ = std::make_unique<device::ThreadPool>(2);
  std::unique_ptr<ModelWeights> weights_;
  std::unique_ptr<Model> model_;
  kv::PagedCache cache_;
  std::array<std::vector<std::uint32_t>, kSequences> tables_;
};

std::vector<TokenId> random_tokens(Random& random, std::size_t count) {
  std::vector<TokenId> tokens(count);
  for (TokenId& token : tokens) {
    token = static_cast<TokenId>(random.below(1000));
  }
  return tokens;
}

// A prompt alone in one step, and in three among 30 others; then a token of output among others.
void expect_no_trace_of_mates(Mix mix) {
  Random random(7);
  const auto prompt = random_tokens(random, 150);
  const auto next = random_tokens(random, 1);
  // Alone: a prompt in one step, then a token of output.
  auto alone = mix.run({{0, prompt, 0}});
  const auto alone_next = mix.run({{0, next, 150}});
  // Among 30 others of all lengths, in three chunks.
  std::vector<float> mixed;
  for (const std::int64_t first : {0, 41, 105}) {
    const std::int64_t end = first == 0 ? 41 : (first == 41 ? 105 : 150);
    std::vector<Mix::Part> parts;
    for (std::size_t s = 2; s < 32; ++s) {
      parts.push_back({s, random_tokens(random, 1 + random.below(9)), first / 41 * 20});
    }
    parts.insert(
        parts.begin() + 11, Mix::Part{1, {prompt.begin() + first, prompt.begin() + end}, first}
    );
    std::size_t before = 0;
    for (std::size_t p = 0; p < 11; ++p) {
      before += parts[p].tokens.size();
    }
    const auto logits = mix.run(parts);
    const auto begin = logits.begin() + static_cast<std::ptrdiff_t>(before * mix.vocabulary());
    mixed.insert(
        mixed.end(), begin, begin + (end - first) * static_cast<std::ptrdiff_t>(mix.vocabulary())
    );
  }
  EXPECT_TRUE(mixed == alone);
  // One row of output among 1 to 127 mates: every recorded number of rows.
  for (const std::size_t mates : {1U, 3U, 7U, 15U, 31U, 60U, 127U}) {
    std::vector<Mix::Part> parts = {{1, next, 150}, {2, random_tokens(random, mates), 0}};
    auto logits = mix.run(parts);
    logits.resize(mix.vocabulary());
    EXPECT_TRUE(logits == alone_next) << mates << " mates";
  }
}

TEST(GpuDeterminism, BatchMatesAndStepsLeaveNoTrace) {
  expect_no_trace_of_mates(Mix::of_fable(Compute::Float32));
  expect_no_trace_of_mates(Mix::of_fable(Compute::BFloat16));
}

// Layers of the shapes that large checkpoints have, through the products made for them.
TEST(GpuDeterminism, BatchMatesLeaveNoTraceInLargeShapes) {
  expect_no_trace_of_mates(Mix::of_noise(
      R"({"architectures": ["Qwen3MoeForCausalLM"], "decoder_sparse_step": 1, "head_dim": 128,
      "hidden_act": "silu", "hidden_size": 2048, "intermediate_size": 6144,
      "max_position_embeddings": 40960, "mlp_only_layers": [], "model_type": "qwen3_moe",
      "moe_intermediate_size": 768, "norm_topk_prob": true, "num_attention_heads": 32,
      "num_experts": 128, "num_experts_per_tok": 8, "num_hidden_layers": 3,
      "num_key_value_heads": 4, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
      "tie_word_embeddings": false, "torch_dtype": "bfloat16", "vocab_size": 8192})",
      Compute::BFloat16
  ));
  expect_no_trace_of_mates(Mix::of_noise(
      R"({"architectures": ["DeepseekV2ForCausalLM"], "first_k_dense_replace": 1,
      "hidden_act": "silu", "hidden_size": 2048, "intermediate_size": 10944, "kv_lora_rank": 512,
      "max_position_embeddings": 4096, "model_type": "deepseek_v2", "moe_intermediate_size": 1408,
      "moe_layer_freq": 1, "n_group": 1, "n_routed_experts": 64, "n_shared_experts": 2,
      "norm_topk_prob": false, "num_attention_heads": 16, "num_experts_per_tok": 6,
      "num_hidden_layers": 3, "num_key_value_heads": 16, "q_lora_rank": null,
      "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "rms_norm_eps": 1e-06, "rope_theta": 10000,
      "routed_scaling_factor": 1.0, "scoring_func": "softmax", "tie_word_embeddings": false,
      "topk_group": 1, "topk_method": "greedy", "torch_dtype": "bfloat16", "v_head_dim": 128,
      "vocab_size": 8192})",
      Compute::BFloat16
  ));
}

TEST(GpuDeterminism, ExpertsAreCountedForRealRowsAlone) {
  Random random(8);
  Mix mix = Mix::of_fable(Compute::Float32);
  static_cast<void>(mix.run({{0, random_tokens(random, 5), 0}}));
  static_cast<void>(mix.run({{1, random_tokens(random, 200), 0}}));
  const auto tokens = mix.model().expert_tokens();
  const std::uint64_t sum = std::accumulate(tokens.begin(), tokens.end(), std::uint64_t{0});
  const ModelShape& shape = mix.model().shape();
  const auto choices = static_cast<std::uint64_t>(shape.moe.gate.topk * shape.moe_layers);
  EXPECT_EQ(sum, 205 * choices);
}

TEST(GpuDecoder, DrawsWhatItIsAskedToAndHandsOutTheOtherRowsLogits) {
  Random random(9);
  Mix mix = Mix::of_fable(Compute::Float32);
  const auto prompt = random_tokens(random, 4);
  const auto logits = mix.run({{0, prompt, 0}});
  std::vector<Draw> draws(4, {.wanted = true});
  draws[1].wanted = false;
  // Keeps more tokens than can be put in order: the row's logits come instead.
  draws[3].temperature = 100.0F;
  draws[3].top_p = 0.99F;
  std::vector<Drawn> drawn(4);
  const auto handed_out = mix.run({{1, prompt, 0}}, draws, drawn);
  const auto row = [&](const std::vector<float>& all, std::size_t index) {
    const auto begin = all.begin() + static_cast<std::ptrdiff_t>(index * mix.vocabulary());
    return std::vector<float>(begin, begin + static_cast<std::ptrdiff_t>(mix.vocabulary()));
  };
  for (const std::size_t index : {0U, 2U}) {
    const auto own = row(logits, index);
    const auto best = std::ranges::max_element(own);
    EXPECT_TRUE(drawn[index].done);
    EXPECT_EQ(drawn[index].token, static_cast<TokenId>(best - own.begin()));
    EXPECT_EQ(drawn[index].logit, *best);
  }
  for (const std::size_t index : {1U, 3U}) {
    EXPECT_FALSE(drawn[index].done);
    EXPECT_EQ(row(handed_out, index), row(logits, index));
  }
}

TEST(GpuDecoder, AGpuThatIsNotThereIsRefused) {
  const auto checkpoint = weights::Checkpoint::open(fable_folder()).value();
  device::ThreadPool pool(1);
  const auto weights = cuda::load_gpu_decoder({}, *checkpoint, {.pool = &pool, .gpu = 99});
  ASSERT_FALSE(weights.ok());
  EXPECT_EQ(weights.error().kind, ErrorKind::NotFound);
}

}  // namespace
}  // namespace pleiad::model
