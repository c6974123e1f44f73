// Also tests: glm4_moe.cc, mixtral.cc, deepseek_v2.cc
#include <cmath>
#include <fstream>
#include <iterator>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/families.h"
#include "tests/model/model_harness.h"

namespace pleiad::model {
namespace {

using ::testing::HasSubstr;

Json golden_config(const std::string& family) {
  std::ifstream in(golden_folder() / family / "config.json");
  const std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  return parse_json(text).value();
}

Json with(Json config, std::string_view key, Json value) {
  config.set(key, std::move(value));
  return config;
}

std::vector<bool> moe_layers(const DecoderConfig& config) {
  std::vector<bool> out;
  for (const DecoderLayer& layer : config.layers) {
    out.push_back(layer.moe);
  }
  return out;
}

TEST(Qwen3Moe, ExpertsStandWhereTheStepAndTheListSay) {
  Json config = with(golden_config("qwen3_moe"), "num_hidden_layers", 6);
  config.set("decoder_sparse_step", 2);
  config.set("mlp_only_layers", JsonArray{3});

  const auto parsed = parse_qwen3_moe(config);

  ASSERT_TRUE(parsed.ok()) << parsed.error().message;
  EXPECT_THAT(moe_layers(*parsed), testing::ElementsAre(false, true, false, false, false, true));
  EXPECT_EQ(parsed->moe_layers(), 2);
}

TEST(Qwen3Moe, AWindowCountsOnlyWhenItIsInUse) {
  const Json sized = with(golden_config("qwen3_moe"), "sliding_window", 16);
  EXPECT_EQ(parse_qwen3_moe(sized)->layers[0].window, 0);
  EXPECT_EQ(parse_qwen3_moe(with(sized, "use_sliding_window", true))->layers[0].window, 16);
}

TEST(Qwen3Moe, BiasesAreOnAllProjectionsOrNone) {
  const auto plain = parse_qwen3_moe(golden_config("qwen3_moe"));
  EXPECT_FALSE(std::get<GqaShape>(plain->attention).qkv_bias);
  const auto biased = parse_qwen3_moe(with(golden_config("qwen3_moe"), "attention_bias", true));
  EXPECT_TRUE(std::get<GqaShape>(biased->attention).qkv_bias);
  EXPECT_TRUE(std::get<GqaShape>(biased->attention).out_bias);
}

TEST(Qwen3Moe, RefusesByNameWhatCannotBe) {
  const auto refusal = [](std::string_view key, Json value) {
    const auto parsed = parse_qwen3_moe(with(golden_config("qwen3_moe"), key, std::move(value)));
    return parsed.ok() ? "accepted" : parsed.error().message;
  };
  EXPECT_THAT(refusal("num_key_value_heads", 3), HasSubstr("num_key_value_heads 3"));
  EXPECT_THAT(refusal("mlp_only_layers", "all"), HasSubstr("mlp_only_layers"));
  EXPECT_THAT(refusal("mlp_only_layers", JsonArray{-1}), HasSubstr("mlp_only_layers"));
  EXPECT_THAT(refusal("num_experts_per_tok", 17), HasSubstr("num_experts_per_tok 17"));
  EXPECT_THAT(refusal("head_dim", 25), HasSubstr("turn in pairs"));
  EXPECT_THAT(refusal("num_hidden_layers", 100'000), HasSubstr("num_hidden_layers"));
  EXPECT_THAT(refusal("hidden_act", "gelu"), HasSubstr("hidden_act"));
}

TEST(Glm4Moe, TurnsTheShareOfAHeadThatTheConfigSays) {
  const auto parsed = parse_glm4_moe(golden_config("glm4_moe"));
  ASSERT_TRUE(parsed.ok());
  const auto& attention = std::get<GqaShape>(parsed->attention);
  EXPECT_EQ(attention.head, 24);
  EXPECT_EQ(attention.rope, 12);
  EXPECT_TRUE(attention.qk_norm && attention.qkv_bias);
  EXPECT_FALSE(attention.out_bias);
  const auto wrong = parse_glm4_moe(with(golden_config("glm4_moe"), "partial_rotary_factor", 1.5));
  EXPECT_THAT(wrong.error().message, HasSubstr("partial_rotary_factor"));
}

TEST(Mixtral, WindowsEveryLayerOrNone) {
  EXPECT_EQ(parse_mixtral(golden_config("mixtral"))->layers[0].window, 0);
  const auto windowed = parse_mixtral(with(golden_config("mixtral"), "sliding_window", 40));
  EXPECT_EQ(windowed->layers[2].window, 40);
}

TEST(DeepseekV2, GroupsCountOnlyWhereRoutingIsLimitedToThem) {
  Json config = with(golden_config("deepseek_v2"), "n_group", 4);
  config.set("topk_group", 2);
  EXPECT_EQ(parse_deepseek_v2(config)->moe.gate.groups, 1);
  config.set("topk_method", "group_limited_greedy");
  EXPECT_EQ(parse_deepseek_v2(config)->moe.gate.groups, 4);
  EXPECT_EQ(parse_deepseek_v2(config)->moe.gate.topk_groups, 2);
  config.set("topk_method", "noaux_tc");
  EXPECT_THAT(parse_deepseek_v2(config).error().message, HasSubstr("topk_method = noaux_tc"));
}

}  // namespace
}  // namespace pleiad::model
