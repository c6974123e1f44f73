// Also tests: config_parts.cc, config_reader.cc, model.cc
#include <cmath>
#include <fstream>
#include <iterator>
#include <string>

#include <gtest/gtest.h>

#include "model/families.h"
#include "tests/model/model_harness.h"

namespace pleiad::model {
namespace {

Json fable_config() {
  std::ifstream in(fable_folder() / "config.json");
  const std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  return parse_json(text).value();
}

std::string refusal(std::string_view key, Json value) {
  Json config = fable_config();
  config.set(key, std::move(value));
  const auto parsed = parse_deepseek_v3(config);
  return parsed.ok() ? "" : parsed.error().message;
}

TEST(DeepseekV3, ReadsTheBundledModel) {
  const auto config = parse_deepseek_v3(fable_config());

  ASSERT_TRUE(config.ok());
  const auto& attention = std::get<MlaShape>(config->attention);
  ASSERT_EQ(config->layers.size(), 6U);
  EXPECT_EQ(attention.q_lora, 128);
  EXPECT_EQ(config->moe.gate.experts, 32);
  EXPECT_FALSE(config->layers[0].moe);
  EXPECT_TRUE(config->layers[1].moe);
  // (32 + 16)^-1/2 times YaRN's temperature for factor 4, squared.
  const double m = 0.1 * std::log(4.0) + 1.0;
  EXPECT_NEAR(attention.scale, m * m / std::sqrt(48.0), 1e-6);
  EXPECT_EQ(config->rope.magnitude, 1.0);
}

TEST(DeepseekV3, NullQueryRankMeansADirectProjection) {
  Json config = fable_config();
  config.set("q_lora_rank", Json());

  EXPECT_EQ(std::get<MlaShape>(parse_deepseek_v3(config)->attention).q_lora, 0);
}

TEST(DeepseekV3, RefusesByNameWhatItDoesNotCompute) {
  EXPECT_NE(refusal("topk_method", "greedy").find("topk_method = greedy"), std::string::npos);
  EXPECT_NE(refusal("scoring_func", "softmax").find("scoring_func"), std::string::npos);
  EXPECT_NE(refusal("hidden_act", "gelu").find("hidden_act"), std::string::npos);
  EXPECT_NE(refusal("attention_bias", true).find("attention_bias"), std::string::npos);
  Json scaling;
  scaling.set("type", "longrope");
  EXPECT_NE(refusal("rope_scaling", scaling).find("longrope"), std::string::npos);
}

TEST(DeepseekV3, RefusesSizesThatMakeNoSense) {
  EXPECT_NE(refusal("hidden_size", 0).find("hidden_size"), std::string::npos);
  EXPECT_NE(refusal("hidden_size", -5).find("hidden_size"), std::string::npos);
  EXPECT_NE(refusal("vocab_size", "many").find("vocab_size"), std::string::npos);
  EXPECT_NE(refusal("num_hidden_layers", Json()).find("missing"), std::string::npos);
  EXPECT_NE(refusal("qk_rope_head_dim", 15).find("even"), std::string::npos);
  EXPECT_NE(refusal("num_experts_per_tok", 17).find("num_experts_per_tok 17"), std::string::npos);
  EXPECT_NE(refusal("n_group", 5).find("5 groups"), std::string::npos);
  EXPECT_NE(refusal("rope_theta", 0.5).find("rope_theta"), std::string::npos);
}

TEST(Architecture, RefusesAQuantisationThatItDoesNotKnow) {
  Json config = fable_config();
  Json quantised;
  quantised.set("quant_method", "gptq");
  config.set("quantization_config", quantised);
  const Architecture& architecture = *find_architecture(config).value();
  const auto shape = architecture.shape(config, Compute::Float32);
  ASSERT_FALSE(shape.ok());
  EXPECT_NE(shape.error().message.find("gptq"), std::string::npos);
}

TEST(FindArchitecture, NamesWhatIsSupported) {
  Json config;
  config.set("architectures", JsonArray{"LlamaForCausalLM"});
  EXPECT_NE(
      find_architecture(config).error().message.find("DeepseekV3ForCausalLM"), std::string::npos
  );
  EXPECT_FALSE(find_architecture(Json(JsonObject{})).ok());
}

}  // namespace
}  // namespace pleiad::model
