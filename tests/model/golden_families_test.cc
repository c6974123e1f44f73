// Also tests: decoder.cc, decoder_weights.cc, mla_layer.cc, gqa_layer.cc, dense_mlp.cc
// Tiny random checkpoints of each supported family against Hugging Face's logits in float32.
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/model/model_harness.h"

namespace pleiad::model {
namespace {

constexpr double kFloat32Tolerance = 2e-4;  // of the range of the logits

class GoldenFamily : public testing::TestWithParam<std::string> {
 protected:
  void expect_parity(const HarnessOptions& options) {
    const auto folder = golden_folder() / GetParam();
    const GoldenTensors golden(folder / "golden.safetensors");
    ModelHarness harness = ModelHarness::load(folder, options);
    for (int i = 0; i < 4; ++i) {
      const std::string prefix = std::to_string(i) + ".";
      const auto prompt = golden.tokens(prefix + "input_ids");
      const auto expected = golden.floats(prefix + "logits");

      EXPECT_LE(error_over_range(harness.logits(prompt), expected), kFloat32Tolerance) << prefix;
      EXPECT_EQ(harness.greedy(prompt, 16), golden.tokens(prefix + "greedy")) << prefix;
    }
  }
};

TEST_P(GoldenFamily, LogitsAndGreedyTokensAreHuggingFaces) {
  expect_parity({});
}

TEST_P(GoldenFamily, TheNewerConfigSpellingMeansTheSame) {
  expect_parity({.config = "config.hf5.json"});
}

TEST_P(GoldenFamily, PortableKernelsAgree) {
  expect_parity({.isa = device::CpuIsa::Portable});
}

TEST_P(GoldenFamily, ChunksAndThreadsLeaveNoTrace) {
  const auto folder = golden_folder() / GetParam();
  const GoldenTensors golden(folder / "golden.safetensors");
  const auto prompt = golden.tokens("3.input_ids");
  for (const auto compute : {kernels::Compute::Float32, kernels::Compute::BFloat16}) {
    const auto whole =
        ModelHarness::load(folder, {.compute = compute, .threads = 1}).logits(prompt);
    for (const int threads : {1, 3}) {
      ModelHarness harness = ModelHarness::load(folder, {.compute = compute, .threads = threads});
      for (const std::size_t chunk : {1U, 7U, 16U, 64U}) {
        EXPECT_EQ(harness.logits(prompt, chunk), whole)
            << threads << " threads, chunks of " << chunk;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Families,
    GoldenFamily,
    testing::Values(
        "deepseek_v2",
        "deepseek_v3",
        "glm4_moe",
        "gpt_oss",
        "kimi_k2",
        "mixtral",
        "qwen3_moe"
    ),
    [](const auto& family) { return family.param; }
);

}  // namespace
}  // namespace pleiad::model
