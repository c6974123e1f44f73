// The bundled model against Hugging Face: logits, greedy text, and loss on text it has not seen.
#include <algorithm>
#include <cmath>
#include <fstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/model/model_harness.h"

namespace pleiad::model {
namespace {

constexpr double kFloat32Tolerance = 2e-4;    // of the range of the logits
constexpr double kBFloat16Tolerance = 0.05;   // of the range; measured 0.012 to 0.027
constexpr double kGreedyAgreementMin = 0.90;  // of positions, under teacher forcing

std::size_t argmax(std::span<const float> row) {
  return static_cast<std::size_t>(std::ranges::max_element(row) - row.begin());
}

class Fable : public testing::Test {
 protected:
  GoldenTensors golden_{golden_folder() / "fable/reference.safetensors"};

  // Calls check(prefix, input_ids) for each reference conversation and prompt.
  template <typename Check>
  void for_each_case(Check check) {
    for (const std::string kind : {"chat", "prompt"}) {
      for (int i = 0; golden_.contains(kind + std::to_string(i) + ".input_ids"); ++i) {
        const std::string prefix = kind + std::to_string(i) + ".";
        check(prefix, golden_.tokens(prefix + "input_ids"));
      }
    }
  }

  [[nodiscard]] std::vector<float> reference_logits(const std::string& prefix) const {
    const bool all = golden_.contains(prefix + "logits");
    return golden_.floats(prefix + (all ? "logits" : "last_logits"));
  }
};

TEST_F(Fable, LogitsAndGreedyTokensAreHuggingFacesInFloat32) {
  ModelHarness harness = ModelHarness::load(fable_folder());
  int cases = 0;
  for_each_case([&](const std::string& prefix, const std::vector<TokenId>& prompt) {
    ++cases;
    EXPECT_LE(error_over_range(harness.logits(prompt), reference_logits(prefix)), kFloat32Tolerance)
        << prefix;
    const auto expected = golden_.tokens(prefix + "greedy");
    EXPECT_EQ(harness.greedy(prompt, expected.size()), expected) << prefix;
  });
  EXPECT_GE(cases, 4);
}

TEST_F(Fable, BFloat16StaysCloseAndAgreesOnNearlyEveryToken) {
  ModelHarness harness =
      ModelHarness::load(fable_folder(), {.compute = kernels::Compute::BFloat16});
  std::size_t positions = 0;
  std::size_t agreed = 0;
  double worst = 0.0;
  for_each_case([&](const std::string& prefix, const std::vector<TokenId>& prompt) {
    worst = std::max(worst, error_over_range(harness.logits(prompt), reference_logits(prefix)));
    // Teacher forcing: the reference's own tokens are fed, whatever this model would have said.
    const auto greedy = golden_.tokens(prefix + "greedy");
    std::vector<TokenId> forced = prompt;
    forced.insert(forced.end(), greedy.begin(), greedy.end() - 1);
    const auto logits = harness.logits(forced);
    for (std::size_t i = 0; i < greedy.size(); ++i) {
      const std::size_t row = prompt.size() - 1 + i;
      const auto chosen =
          argmax(std::span(logits).subspan(row * harness.vocabulary(), harness.vocabulary()));
      ++positions;
      agreed += chosen == greedy[i] ? 1U : 0U;
    }
  });
  const double agreement = static_cast<double>(agreed) / static_cast<double>(positions);
  RecordProperty("worst_error_over_range", std::to_string(worst));
  RecordProperty("greedy_agreement", std::to_string(agreement));
  std::printf("bfloat16: worst error %.4f of range, greedy agreement %.4f\n", worst, agreement);
  EXPECT_LE(worst, kBFloat16Tolerance);
  EXPECT_GE(agreement, kGreedyAgreementMin);
}

}  // namespace
}  // namespace pleiad::model
