// Also tests: config_parts.cc, config_reader.cc
#include "model/uncomputed_keys.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/families.h"
#include "model/model.h"
#include "tests/model/model_harness.h"
#include "tests/model/published_configs.h"
#include "tests/model/tiny_configs.h"

namespace pleiad::model {
namespace {

using ::testing::HasSubstr;

// What the family says to its tiny configuration with `key` set, or "accepted".
std::string answer(const std::string& family, std::string_view key, Json value) {
  Json config = reference::read_json(golden_folder() / family / "config.json");
  config.set(key, std::move(value));
  const auto parsed = find_architecture(config).value()->parse(config);
  return parsed.ok() ? "accepted" : parsed.error().message;
}

Json json(std::string_view text) {
  return parse_json(text).value();
}

constexpr std::string_view kAll[] =
    {"deepseek_v2", "deepseek_v3", "glm4_moe", "gpt_oss", "mixtral", "qwen3_moe"};

void expect_refused(
    std::initializer_list<std::string_view> families,
    std::string_view key,
    const Json& value
) {
  for (const std::string_view family : families) {
    EXPECT_THAT(answer(std::string(family), key, value), HasSubstr(std::string(key) + " = "))
        << family << ": " << value.dump();
  }
}

TEST(UncomputedKeys, PublishedConfigurationsHaveNone) {
  for (const auto& [name, text] : published_configs()) {
    const Json config = json(text);
    for (const Json& spelt : {config, reference::hf5_spelling(config)}) {
      const auto parsed = find_architecture(spelt).value()->parse(spelt);

      EXPECT_TRUE(parsed.ok()) << name << ": " << parsed.error().message;
    }
  }
}

TEST(UncomputedKeys, RefuseTheSwitchesOfOtherFamilies) {
  const Json chunks = json(R"({"chunk_size": 262144, "local_size": 8192})");
  for (const std::string_view family : kAll) {
    expect_refused({family}, "dual_chunk_attention_config", chunks);
    expect_refused({family}, "attn_logit_softcapping", 50.0);
    expect_refused({family}, "final_logit_softcapping", 30.0);
    expect_refused({family}, "logit_scale", 0.0625);
    expect_refused({family}, "embedding_multiplier", 12);
    expect_refused({family}, "mlp_bias", true);
    expect_refused({family}, "clip_qkv", 8);
    expect_refused({family}, "qkv_bias", true);
    expect_refused({family}, "index_topk", 2048);
    expect_refused({family}, "no_rope_layers", JsonArray{1, 0});
  }
  expect_refused({"deepseek_v2", "deepseek_v3", "mixtral"}, "attention_bias", true);
  expect_refused({"deepseek_v2", "deepseek_v3", "gpt_oss", "mixtral"}, "use_qk_norm", true);
  expect_refused({"qwen3_moe"}, "use_qk_norm", false);
  expect_refused({"glm4_moe", "gpt_oss", "mixtral", "qwen3_moe"}, "rope_interleave", true);
  expect_refused({"deepseek_v2"}, "rope_interleave", false);
  expect_refused({"glm4_moe", "gpt_oss", "mixtral", "qwen3_moe"}, "kv_lora_rank", 16);
  expect_refused({"deepseek_v2", "glm4_moe", "mixtral", "qwen3_moe"}, "swiglu_limit", 7.0);
}

TEST(UncomputedKeys, RefuseOtherWaysToChooseAndPlaceExperts) {
  expect_refused({"gpt_oss", "mixtral"}, "norm_topk_prob", false);
  expect_refused({"gpt_oss", "mixtral", "qwen3_moe"}, "routed_scaling_factor", 2.5);
  expect_refused({"gpt_oss", "mixtral", "qwen3_moe"}, "n_shared_experts", 1);
  expect_refused({"gpt_oss", "mixtral", "qwen3_moe"}, "n_group", 2);
  expect_refused({"gpt_oss", "mixtral", "qwen3_moe"}, "first_k_dense_replace", 1);
  expect_refused({"gpt_oss", "mixtral", "qwen3_moe"}, "topk_method", "noaux_tc");
  expect_refused({"gpt_oss", "mixtral", "qwen3_moe"}, "scoring_func", "sigmoid");
  expect_refused({"glm4_moe"}, "topk_method", "greedy");
  expect_refused({"glm4_moe"}, "scoring_func", "softmax");
  expect_refused({"glm4_moe", "gpt_oss", "mixtral", "qwen3_moe"}, "moe_layer_freq", 2);
  expect_refused({"deepseek_v3", "glm4_moe", "gpt_oss", "mixtral"}, "decoder_sparse_step", 2);
  expect_refused({"deepseek_v3", "glm4_moe", "gpt_oss"}, "mlp_only_layers", JsonArray{0});
  for (const std::string_view family : kAll) {
    expect_refused({family}, "shared_expert_intermediate_size", 64);
    expect_refused({family}, "zero_expert_num", 4);
  }
}

TEST(UncomputedKeys, LetPassWhatMeansNothing) {
  for (const std::string_view name : kAll) {
    const std::string family(name);
    EXPECT_EQ(answer(family, "num_nextn_predict_layers", 1), "accepted");
    EXPECT_EQ(answer(family, "ep_size", 8), "accepted");
    EXPECT_EQ(answer(family, "a_key_of_next_year", 5), "accepted");
    EXPECT_EQ(answer(family, "attn_logit_softcapping", Json()), "accepted");
    EXPECT_EQ(answer(family, "shared_expert_intermediate_size", 0), "accepted");
    EXPECT_EQ(answer(family, "no_rope_layers", JsonArray{}), "accepted");
    EXPECT_EQ(answer(family, "logit_scale", 1.0), "accepted");
  }
  EXPECT_EQ(answer("mixtral", "norm_topk_prob", true), "accepted");
  EXPECT_EQ(answer("qwen3_moe", "topk_method", "greedy"), "accepted");
  EXPECT_EQ(answer("deepseek_v2", "n_group", 4), "accepted") << "greedy looks at no groups";
}

TEST(UncomputedKeys, LayersAreWindowedAsTheConfigurationSays) {
  for (const std::string family : {"deepseek_v2", "deepseek_v3", "glm4_moe"}) {
    expect_refused({family}, "sliding_window", 64);
  }
  const JsonArray full = {"full_attention", "full_attention", "full_attention"};
  const JsonArray mixed = {"full_attention", "sliding_attention", "full_attention"};
  for (const std::string family : {"deepseek_v3", "glm4_moe", "mixtral", "qwen3_moe"}) {
    EXPECT_EQ(answer(family, "layer_types", full), "accepted");
    expect_refused({family}, "layer_types", mixed);
    EXPECT_THAT(
        answer(family, "layer_types", JsonArray{"full_attention"}), HasSubstr("1 layer_types")
    );
  }
}

TEST(UncomputedKeys, AWindowForSomeLayersNeedsAList) {
  Json config = reference::read_json(golden_folder() / "qwen3_moe/config.json");
  config.set("sliding_window", 16);
  config.set("max_window_layers", 2);
  EXPECT_TRUE(parse_qwen3_moe(config).ok()) << "the window is not in use";
  config.set("use_sliding_window", true);
  EXPECT_THAT(parse_qwen3_moe(config).error().message, HasSubstr("max_window_layers = 2"));
  config.set("max_window_layers", 0);
  EXPECT_TRUE(parse_qwen3_moe(config).ok());

  Json mixtral = reference::read_json(golden_folder() / "mixtral/config.json");
  mixtral.set("sliding_window", 16);
  mixtral.set("use_sliding_window", false);
  EXPECT_THAT(parse_mixtral(mixtral).error().message, HasSubstr("use_sliding_window = false"));
}

TEST(UncomputedKeys, OnlyGlmTurnsPartsOfHeads) {
  for (const std::string family :
       {"deepseek_v2", "deepseek_v3", "gpt_oss", "mixtral", "qwen3_moe"}) {
    expect_refused({family}, "partial_rotary_factor", 0.5);
    EXPECT_EQ(answer(family, "partial_rotary_factor", 1.0), "accepted");
  }
  const Json newer = json(R"({"rope_type": "default", "partial_rotary_factor": 0.5})");
  EXPECT_EQ(answer("glm4_moe", "rope_parameters", newer), "accepted");
  EXPECT_THAT(
      answer("qwen3_moe", "rope_parameters", newer),
      HasSubstr("rope_parameters.partial_rotary_factor = 0.5")
  );
}

TEST(UncomputedKeys, RopeScalingIsReadToTheLastMember) {
  const auto refusal = [](std::string_view scaling) {
    return answer("qwen3_moe", "rope_scaling", json(scaling));
  };
  const std::string yarn = R"({"rope_type": "yarn", "factor": 4, "beta_fast": 32)";
  EXPECT_EQ(refusal(yarn + "}"), "accepted");
  EXPECT_EQ(refusal(yarn + R"(, "finetuned": true})"), "accepted");
  for (const std::string kind : {"linear", "dynamic", "llama3", "longrope", "mrope", "su"}) {
    EXPECT_THAT(
        refusal(R"({"factor": 8, "type": ")" + kind + R"("})"),
        HasSubstr("rope_scaling.rope_type = " + kind)
    );
  }
  EXPECT_THAT(refusal(R"({"factor": 4})"), HasSubstr("rope_scaling.factor = 4"));
  EXPECT_THAT(
      refusal(R"({"type": "default", "mrope_section": [16, 24, 24]})"), HasSubstr("mrope_section")
  );
  EXPECT_THAT(refusal(yarn + R"(, "attn_factor": 2})"), HasSubstr("rope_scaling.attn_factor = 2"));
  EXPECT_THAT(
      refusal(R"({"full_attention": {"rope_type": "yarn", "factor": 4}})"),
      HasSubstr("rope_scaling.full_attention")
  );
  EXPECT_THAT(refusal(yarn + R"(, "mscale": 0.7})"), HasSubstr("both or neither"));
  EXPECT_THAT(refusal(yarn + R"(, "beta_slow": 0})"), HasSubstr("beta_slow"));
  EXPECT_THAT(refusal(R"("yarn")"), HasSubstr("rope_scaling must be an object"));
}

TEST(UncomputedKeys, WhatProgramsDefaultDifferentlyMustBeThere) {
  EXPECT_THAT(answer("mixtral", "rms_norm_eps", Json()), HasSubstr("rms_norm_eps is missing"));
  for (const std::string key : {"n_group", "topk_group", "routed_scaling_factor"}) {
    EXPECT_THAT(answer("deepseek_v3", key, Json()), HasSubstr(key + " is missing"));
  }
}

}  // namespace
}  // namespace pleiad::model
