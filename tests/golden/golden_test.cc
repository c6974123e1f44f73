#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <unistd.h>

#include "base/json.h"
#include "model/checkpoint_quantizer.h"
#include "tests/model/model_harness.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace pleiad {
namespace {

using model::ModelHarness;

std::string read_all(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

text::Tokenizer fable_tokenizer() {
  const auto folder = model::fable_folder();
  return text::Tokenizer::load(folder / "tokenizer.json", folder / "tokenizer_config.json").value();
}

// Sum over the tokens after the first of -log p(token | those before), in nats.
double negative_log_likelihood(ModelHarness& harness, const std::vector<TokenId>& tokens) {
  const auto logits = harness.logits(tokens);
  const std::size_t vocabulary = harness.vocabulary();
  double sum = 0.0;
  for (std::size_t i = 0; i + 1 < tokens.size(); ++i) {
    const auto row = std::span(logits).subspan(i * vocabulary, vocabulary);
    const double top = static_cast<double>(*std::ranges::max_element(row));
    double mass = 0.0;
    for (const float logit : row)
      mass += std::exp(static_cast<double>(logit) - top);
    sum += top + std::log(mass) - static_cast<double>(row[tokens[i + 1]]);
  }
  return sum;
}

// Mean negative log-likelihood of the held-out passages' 15,742 tokens, in nats.
double held_out_loss(ModelHarness& harness) {
  constexpr std::size_t kTokensMax = 1024;
  const text::Tokenizer tokenizer = fable_tokenizer();
  std::ifstream lines(model::golden_folder() / "fable/heldout.jsonl");
  double sum = 0.0;
  std::size_t predicted = 0;
  for (std::string line; std::getline(lines, line);) {
    const Json passage = parse_json(line).value();
    std::vector<TokenId> tokens = tokenizer.encode(*passage.find("text")->as_string()).value();
    tokens.insert(tokens.begin(), *tokenizer.bos());
    tokens.resize(std::min(tokens.size(), kTokensMax));
    sum += negative_log_likelihood(harness, tokens);
    predicted += tokens.size() - 1;
  }
  EXPECT_EQ(predicted, 15742U);
  return sum / static_cast<double>(predicted);
}

// 2.6559 nats per token is what Hugging Face gives in float32.
TEST(Golden, LossOnHeldOutTextIsHuggingFaces) {
  ModelHarness harness = ModelHarness::load(model::fable_folder());
  const double loss = held_out_loss(harness);
  std::printf("held-out loss %.5f nats/token\n", loss);
  EXPECT_NEAR(loss, 2.6559, 0.001);
}

// What fewer bits cost, beside bfloat16.
TEST(Golden, LossOnHeldOutTextSurvivesQuantisation) {
  using weights::QuantScheme;
  const model::HarnessOptions narrow{.compute = kernels::Compute::BFloat16};
  ModelHarness whole = ModelHarness::load(model::fable_folder(), narrow);
  const double base = held_out_loss(whole);
  std::printf("bfloat16: held-out loss %.5f nats/token\n", base);
  const auto folder =
      std::filesystem::temp_directory_path() / ("pleiad-quantised-" + std::to_string(::getpid()));
  device::ThreadPool pool(2);
  for (const auto& [scheme, bound] :
       {std::pair{QuantScheme::W8A8, 0.01},
        std::pair{QuantScheme::Fp8Block, 0.01},
        std::pair{QuantScheme::Int4Group32, 0.08}}) {
    const auto written = model::quantize_checkpoint(
        model::fable_folder(), folder, {.scheme = scheme, .pool = &pool}
    );
    ASSERT_TRUE(written.ok()) << written.error().message;
    ModelHarness harness = ModelHarness::load(folder, narrow);
    std::filesystem::remove_all(folder);
    const double loss = held_out_loss(harness);
    const std::string name(weights::to_string(scheme));
    std::printf("%s: held-out loss %.5f nats/token\n", name.c_str(), loss);
    EXPECT_NEAR(loss, base, bound) << name;
  }
}

TEST(Golden, ChatsRenderEncodeAndContinueAsHuggingFace) {
  const Json reference =
      parse_json(read_all(model::golden_folder() / "fable/reference.json")).value();
  const Json config = parse_json(read_all(model::fable_folder() / "tokenizer_config.json")).value();
  const auto chat_template =
      text::ChatTemplate::compile(*config.find("chat_template")->as_string()).value();
  const text::Tokenizer tokenizer = fable_tokenizer();
  ModelHarness harness = ModelHarness::load(model::fable_folder());
  const JsonArray& chats = *reference.find("chats")->as_array();
  ASSERT_FALSE(chats.empty());
  for (const Json& chat : chats) {
    const auto rendered = chat_template.render({
        .messages = *chat.find("messages"),
        .add_generation_prompt = true,
        .bos_token = "<|bos|>",
        .eos_token = "<|eos|>",
    });
    ASSERT_TRUE(rendered.ok());
    EXPECT_EQ(rendered->text, *chat.find("rendered")->as_string());

    const auto prompt =
        tokenizer.encode(rendered->text, {.untrusted = rendered->untrusted}).value();
    const std::string& expected = *chat.find("greedy_text")->as_string();
    const auto greedy = harness.greedy(prompt, 96);
    const std::string text = tokenizer.decode(greedy, {.skip_special = true}).value();
    EXPECT_TRUE(text.starts_with(expected) || expected.starts_with(text)) << text << "\n"
                                                                          << expected;
  }
}

}  // namespace
}  // namespace pleiad
