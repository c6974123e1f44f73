#include "tests/model/tiny_configs.h"

#include <fstream>
#include <iterator>
#include <ostream>

#include "base/check.h"

namespace pleiad::model::reference {
namespace {

constexpr std::string_view kDeepseekV2 = R"({
  "architectures": ["DeepseekV2ForCausalLM"], "model_type": "deepseek_v2", "vocab_size": 130,
  "hidden_size": 40, "intermediate_size": 52, "moe_intermediate_size": 20, "num_hidden_layers": 3,
  "num_attention_heads": 3, "num_key_value_heads": 3, "q_lora_rank": 20, "kv_lora_rank": 28,
  "qk_nope_head_dim": 12, "qk_rope_head_dim": 8, "v_head_dim": 20, "n_routed_experts": 12,
  "n_shared_experts": 2, "num_experts_per_tok": 3, "n_group": 1, "topk_group": 1,
  "topk_method": "greedy", "scoring_func": "softmax", "norm_topk_prob": false,
  "routed_scaling_factor": 1.0, "first_k_dense_replace": 1, "moe_layer_freq": 1,
  "rms_norm_eps": 1e-6, "max_position_embeddings": 2560, "rope_theta": 10000.0,
  "tie_word_embeddings": false, "hidden_act": "silu", "attention_bias": false})";

constexpr std::string_view kDeepseekV3 = R"({
  "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "vocab_size": 130,
  "hidden_size": 40, "intermediate_size": 52, "moe_intermediate_size": 20, "num_hidden_layers": 3,
  "num_attention_heads": 3, "num_key_value_heads": 3, "q_lora_rank": 20, "kv_lora_rank": 28,
  "qk_nope_head_dim": 12, "qk_rope_head_dim": 8, "v_head_dim": 20, "n_routed_experts": 12,
  "n_shared_experts": 1, "num_experts_per_tok": 3, "n_group": 4, "topk_group": 2,
  "topk_method": "noaux_tc", "scoring_func": "sigmoid", "norm_topk_prob": true,
  "routed_scaling_factor": 2.5, "first_k_dense_replace": 1, "moe_layer_freq": 1,
  "rms_norm_eps": 1e-6, "max_position_embeddings": 2560, "rope_theta": 10000.0,
  "rope_scaling": {"type": "yarn", "factor": 40, "original_max_position_embeddings": 64,
    "beta_fast": 32, "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0},
  "tie_word_embeddings": false, "hidden_act": "silu", "attention_bias": false})";

constexpr std::string_view kQwen3Moe = R"({
  "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "vocab_size": 130,
  "hidden_size": 40, "intermediate_size": 52, "moe_intermediate_size": 20, "num_hidden_layers": 3,
  "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 20, "num_experts": 10,
  "num_experts_per_tok": 3, "norm_topk_prob": true, "decoder_sparse_step": 1,
  "mlp_only_layers": [], "rms_norm_eps": 1e-6, "max_position_embeddings": 2560,
  "rope_theta": 1000000.0, "rope_scaling": null, "sliding_window": null,
  "use_sliding_window": false, "max_window_layers": 3, "tie_word_embeddings": false,
  "hidden_act": "silu", "attention_bias": false})";

constexpr std::string_view kMixtral = R"({
  "architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "vocab_size": 130,
  "hidden_size": 40, "intermediate_size": 20, "num_hidden_layers": 3, "num_attention_heads": 4,
  "num_key_value_heads": 2, "num_local_experts": 6, "num_experts_per_tok": 2,
  "rms_norm_eps": 1e-5, "max_position_embeddings": 2560, "rope_theta": 1000000.0,
  "sliding_window": null, "tie_word_embeddings": false, "hidden_act": "silu"})";

constexpr std::string_view kGlm4Moe = R"({
  "architectures": ["Glm4MoeForCausalLM"], "model_type": "glm4_moe", "vocab_size": 130,
  "hidden_size": 40, "intermediate_size": 52, "moe_intermediate_size": 20, "num_hidden_layers": 3,
  "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 24, "n_routed_experts": 12,
  "n_shared_experts": 1, "num_experts_per_tok": 3, "n_group": 1, "topk_group": 1,
  "norm_topk_prob": true, "routed_scaling_factor": 1.5, "first_k_dense_replace": 1,
  "partial_rotary_factor": 0.5, "use_qk_norm": true, "attention_bias": true,
  "rms_norm_eps": 1e-5, "max_position_embeddings": 2560, "rope_theta": 1000000.0,
  "tie_word_embeddings": false, "hidden_act": "silu"})";

constexpr std::string_view kGptOss = R"({
  "architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss", "vocab_size": 130,
  "hidden_size": 40, "intermediate_size": 20, "num_hidden_layers": 3, "num_attention_heads": 6,
  "num_key_value_heads": 2, "head_dim": 20, "num_local_experts": 6, "num_experts_per_tok": 2,
  "sliding_window": 16, "rms_norm_eps": 1e-5, "max_position_embeddings": 2560,
  "rope_theta": 150000.0, "rope_scaling": {"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0,
    "beta_slow": 1.0, "original_max_position_embeddings": 64, "truncate": false},
  "tie_word_embeddings": false, "hidden_act": "silu", "attention_bias": true,
  "swiglu_limit": 7.0})";

std::string_view base_of(std::string_view family) {
  if (family == "DeepseekV2") return kDeepseekV2;
  if (family == "DeepseekV3") return kDeepseekV3;
  if (family == "Qwen3Moe") return kQwen3Moe;
  if (family == "Mixtral") return kMixtral;
  if (family == "Glm4Moe") return kGlm4Moe;
  PLEIAD_CHECK(family == "GptOss", family);
  return kGptOss;
}

void add_deepseek_v2(std::vector<TinyCase>& out) {
  const std::string family = "DeepseekV2";
  const auto add = [&](const char* name, std::string_view changes, std::string_view dtype = "F32") {
    out.push_back({.family = family, .name = name, .changes = std::string(changes), .dtype = dtype}
    );
  };
  add("Base", "{}");
  add("BFloat16Files", "{}", "BF16");
  add("Float16Files", "{}", "F16");
  add("NoQueryRank", R"({"q_lora_rank": null})");
  add("QueryRankAbsentOddSizes",
      R"({"q_lora_rank": null, "hidden_size": 50, "kv_lora_rank": 34, "qk_nope_head_dim": 10,
          "qk_rope_head_dim": 6, "v_head_dim": 14, "vocab_size": 101, "moe_intermediate_size": 18})"
  );
  add("GreedyIgnoresGroups", R"({"n_group": 4, "topk_group": 1})");
  add("OneGroupOfOne", R"({"topk_method": "group_limited_greedy"})");
  add("OneGroupOfThree",
      R"({"topk_method": "group_limited_greedy", "n_group": 3, "topk_group": 1})");
  add("TwoGroupsOfThree",
      R"({"topk_method": "group_limited_greedy", "n_group": 3, "topk_group": 2,
          "routed_scaling_factor": 16.0})");
  add("ThreeGroupsOfFour",
      R"({"topk_method": "group_limited_greedy", "n_group": 4, "topk_group": 3})");
  add("TwoGroupsOfFourNormalised",
      R"({"topk_method": "group_limited_greedy", "n_group": 4, "topk_group": 2,
          "norm_topk_prob": true})");
  add("Normalised", R"({"norm_topk_prob": true})");
  add("OneExpert", R"({"num_experts_per_tok": 1})");
  add("EveryExpert", R"({"num_experts_per_tok": 12, "norm_topk_prob": true})");
  add("ThreeSharedExperts", R"({"n_shared_experts": 3})");
  add("NoSharedExperts", R"({"n_shared_experts": null})");
  add("ZeroSharedExperts", R"({"n_shared_experts": 0})");
  add("NoDenseLayer", R"({"first_k_dense_replace": 0})");
  add("TwoDenseLayers", R"({"first_k_dense_replace": 2})");
  add("OnlyDenseLayers", R"({"first_k_dense_replace": 3})");
  add("EverySecondLayerHasExperts", R"({"moe_layer_freq": 2, "num_hidden_layers": 5})");
  add("EveryThirdLayerHasExperts",
      R"({"moe_layer_freq": 3, "num_hidden_layers": 4, "first_k_dense_replace": 0})");
  add("YarnWithEqualScales",
      R"({"rope_scaling": {"type": "yarn", "factor": 40, "original_max_position_embeddings": 64,
          "beta_fast": 32, "beta_slow": 1, "mscale": 0.707, "mscale_all_dim": 0.707}})");
  add("YarnWithUnequalScales",
      R"({"rope_scaling": {"type": "yarn", "factor": 40, "original_max_position_embeddings": 64,
          "beta_fast": 16, "beta_slow": 2, "mscale": 1.0, "mscale_all_dim": 0.5}})");
  add("YarnWithoutScales",
      R"({"rope_scaling": {"type": "yarn", "factor": 8, "original_max_position_embeddings": 64}})");
  add("YarnWithoutStretch",
      R"({"rope_scaling": {"type": "yarn", "factor": 1, "original_max_position_embeddings": 64,
          "mscale": 1.0, "mscale_all_dim": 1.0}})");
  add("Tied", R"({"tie_word_embeddings": true})");
  add("OneHead", R"({"num_attention_heads": 1, "num_key_value_heads": 1})");
  add("HeadsOfTheRelease",
      R"({"num_hidden_layers": 2, "hidden_size": 320, "q_lora_rank": null, "kv_lora_rank": 512,
          "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
          "n_routed_experts": 160, "num_experts_per_tok": 6, "n_group": 8, "topk_group": 3,
          "topk_method": "group_limited_greedy", "routed_scaling_factor": 16.0})");
}

void add_deepseek_v3(std::vector<TinyCase>& out) {
  const std::string family = "DeepseekV3";
  const auto add = [&](const char* name, std::string_view changes, double score_bias = 0) {
    out.push_back(
        {.family = family, .name = name, .changes = std::string(changes), .score_bias = score_bias}
    );
  };
  add("Base", "{}");
  add("NegativeScores", "{}", -3);
  add("NegativeScoresInOneGroupOfFour", R"({"topk_group": 1})", -3);
  add("PositiveBias", "{}", 4);
  add("OneGroup", R"({"n_group": 1, "topk_group": 1})");
  add("OneGroupNegativeScores", R"({"n_group": 1, "topk_group": 1})", -3);
  add("OneOfThreeGroups", R"({"n_group": 3, "topk_group": 1})");
  add("TwoOfThreeGroups", R"({"n_group": 3, "topk_group": 2})", -2);
  add("ThreeOfFourGroups", R"({"topk_group": 3, "num_experts_per_tok": 7})", -2);
  add("AllOfFourGroups", R"({"topk_group": 4})");
  add("GroupsOfTwo", R"({"n_group": 6, "topk_group": 3, "num_experts_per_tok": 5})", -1);
  add("NotNormalised", R"({"norm_topk_prob": false})");
  add("OneExpert", R"({"num_experts_per_tok": 1})");
  add("HalvedPairs", R"({"rope_interleave": false})");
  add("HalvedPairsPlainRope", R"({"rope_interleave": false, "rope_scaling": null})");
  add("NoQueryRank", R"({"q_lora_rank": null})");
  add("NoSharedExperts", R"({"n_shared_experts": 0})");
  add("TwoSharedExperts", R"({"n_shared_experts": 2})");
  add("NoDenseLayer", R"({"first_k_dense_replace": 0})");
  add("EverySecondLayerHasExperts", R"({"moe_layer_freq": 2, "num_hidden_layers": 5})");
  add("YarnNotTruncated",
      R"({"rope_scaling": {"type": "yarn", "factor": 4, "original_max_position_embeddings": 32,
          "mscale": 0.7, "mscale_all_dim": 0.9, "truncate": false}})");
  add("KimiSteepYarn",
      R"({"model_type": "kimi_k2", "n_group": 1, "topk_group": 1, "rope_theta": 50000.0,
          "routed_scaling_factor": 2.827, "num_experts_per_tok": 6,
          "rope_scaling": {"type": "yarn", "factor": 32, "original_max_position_embeddings": 4096,
            "beta_fast": 1, "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0}})");
  add("Tied", R"({"tie_word_embeddings": true})");
  add("OddSizes",
      R"({"hidden_size": 34, "intermediate_size": 46, "moe_intermediate_size": 14,
          "vocab_size": 77, "num_attention_heads": 5, "num_key_value_heads": 5, "q_lora_rank": 18,
          "kv_lora_rank": 22, "qk_nope_head_dim": 6, "qk_rope_head_dim": 10, "v_head_dim": 6})");
  add("HeadsOfTheRelease",
      R"({"num_hidden_layers": 2, "hidden_size": 320, "q_lora_rank": 192, "kv_lora_rank": 512,
          "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
          "n_routed_experts": 256, "num_experts_per_tok": 8, "n_group": 8, "topk_group": 4,
          "rope_scaling": {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096,
            "beta_fast": 32, "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0}})");
}

void add_qwen3_moe(std::vector<TinyCase>& out) {
  const auto add = [&](const char* name, std::string_view changes, std::string_view dtype = "F32") {
    out.push_back(
        {.family = "Qwen3Moe", .name = name, .changes = std::string(changes), .dtype = dtype}
    );
  };
  add("Base", "{}");
  add("BFloat16Files", "{}", "BF16");
  add("Float16Files", R"({"attention_bias": true})", "F16");
  add("NotNormalised", R"({"norm_topk_prob": false})");
  add("ExpertsEverySecondLayer", R"({"decoder_sparse_step": 2, "num_hidden_layers": 5})");
  add("SomeDenseLayers", R"({"mlp_only_layers": [0, 2], "num_hidden_layers": 4})");
  add("HeadFromTheHiddenSize", R"({"head_dim": null, "num_attention_heads": 4})");
  add("NarrowHeads", R"({"head_dim": 6})");
  add("Biases", R"({"attention_bias": true})");
  add("WindowNotInUse", R"({"sliding_window": 8})");
  add("WindowInUse",
      R"({"sliding_window": 24, "use_sliding_window": true, "max_window_layers": null})");
  add("Yarn",
      R"({"rope_scaling": {"rope_type": "yarn", "factor": 4.0,
          "original_max_position_embeddings": 64}})");
  add("YarnWithItsFactor",
      R"({"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "attention_factor": 1.25,
          "original_max_position_embeddings": 64}})");
  add("Tied", R"({"tie_word_embeddings": true})");
  add("OneKeyHead", R"({"num_key_value_heads": 1})");
  add("AsManyKeyHeads", R"({"num_key_value_heads": 6})");
  add("OneExpert", R"({"num_experts_per_tok": 1})");
  add("OddSizes",
      R"({"hidden_size": 35, "intermediate_size": 45, "moe_intermediate_size": 15,
          "vocab_size": 77, "num_experts": 7, "head_dim": 10})");
  add("HeadsOfTheRelease",
      R"({"num_hidden_layers": 2, "hidden_size": 320, "head_dim": 128, "num_attention_heads": 8,
          "num_key_value_heads": 1, "num_experts": 128, "num_experts_per_tok": 8})");
}

void add_mixtral(std::vector<TinyCase>& out) {
  const auto add = [&](const char* name, std::string_view changes) {
    out.push_back({.family = "Mixtral", .name = name, .changes = std::string(changes)});
  };
  add("Base", "{}");
  add("WindowOfOne", R"({"sliding_window": 1})");
  add("SmallWindow", R"({"sliding_window": 24})");
  add("WindowOfAPage", R"({"sliding_window": 64})");
  add("LargeWindow", R"({"sliding_window": 4096})");
  add("OneKeyHead", R"({"num_key_value_heads": 1})");
  add("AsManyKeyHeads", R"({"num_key_value_heads": 4})");
  add("OneExpert", R"({"num_experts_per_tok": 1})");
  add("EveryExpert", R"({"num_experts_per_tok": 6})");
  add("HeadOfItsOwn", R"({"head_dim": 18})");
  add("Tied", R"({"tie_word_embeddings": true})");
  add("OddSizes",
      R"({"hidden_size": 42, "intermediate_size": 33, "vocab_size": 77, "num_local_experts": 5,
          "num_attention_heads": 3, "num_key_value_heads": 3})");
  add("HeadsOfTheRelease",
      R"({"num_hidden_layers": 2, "hidden_size": 512, "intermediate_size": 136,
          "num_local_experts": 8})");
}

void add_glm4_moe(std::vector<TinyCase>& out) {
  const auto add = [&](const char* name, std::string_view changes, double score_bias = 0) {
    out.push_back(
        {.family = "Glm4Moe",
         .name = name,
         .changes = std::string(changes),
         .score_bias = score_bias}
    );
  };
  add("Base", "{}");
  add("NoQueryNorm", R"({"use_qk_norm": false})");
  add("NoBiases", R"({"attention_bias": false})");
  add("AQuarterTurns", R"({"partial_rotary_factor": 0.25})");
  add("AllTurns", R"({"partial_rotary_factor": 1.0})");
  add("SeveralSharedExperts", R"({"n_shared_experts": 3})");
  add("NoDenseLayer", R"({"first_k_dense_replace": 0})");
  add("TwoDenseLayers", R"({"first_k_dense_replace": 2})");
  add("GroupsWithNegativeScores", R"({"n_group": 3, "topk_group": 2})", -3);
  add("NotNormalised", R"({"norm_topk_prob": false})");
  add("Tied", R"({"tie_word_embeddings": true})");
  add("Yarn",
      R"({"rope_scaling": {"rope_type": "yarn", "factor": 4.0,
          "original_max_position_embeddings": 64}})");
  add("OddSizes",
      R"({"hidden_size": 35, "intermediate_size": 45, "moe_intermediate_size": 15,
          "vocab_size": 77, "head_dim": 20, "partial_rotary_factor": 0.3})");
  add("HeadsOfTheRelease",
      R"({"num_hidden_layers": 2, "hidden_size": 320, "head_dim": 128, "num_attention_heads": 12,
          "num_key_value_heads": 1, "n_routed_experts": 160, "num_experts_per_tok": 8})");
}

void add_gpt_oss(std::vector<TinyCase>& out) {
  out.push_back(
      {.family = "GptOss",
       .name = "Mxfp4Files",
       .changes = R"({"hidden_size": 64, "intermediate_size": 32,
                      "quantization_config": {"quant_method": "mxfp4"}})",
       .dtype = "MXFP4"}
  );
  const auto add = [&](const char* name, std::string_view changes, double sink = 0) {
    out.push_back({.family = "GptOss", .name = name, .changes = std::string(changes), .sink = sink}
    );
  };
  add("Base", "{}");
  add("LargeSinks", "{}", 12);
  add("NegativeSinks", "{}", -40);
  add("AllFull", R"({"layer_types": ["full_attention", "full_attention", "full_attention"]})");
  add("AllWindowed",
      R"({"layer_types": ["sliding_attention", "sliding_attention", "sliding_attention"]})");
  add("OddLayersWindowed",
      R"({"layer_types": ["full_attention", "sliding_attention", "full_attention"]})");
  add("WindowOfOne", R"({"sliding_window": 1})");
  add("WindowOfAPage", R"({"sliding_window": 64})");
  add("WindowOfAPageAndOne", R"({"sliding_window": 65})");
  add("WindowOfPages", R"({"sliding_window": 200})", 3);
  add("NoBiases", R"({"attention_bias": false})");
  add("TightLimit", R"({"swiglu_limit": 0.75})");
  add("WideLimit", R"({"swiglu_limit": 100.0})");
  add("YarnTruncated",
      R"({"rope_scaling": {"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0,
          "beta_slow": 1.0, "original_max_position_embeddings": 4096, "truncate": true}})");
  add("YarnOfTheRelease",
      R"({"head_dim": 64, "rope_scaling": {"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0,
          "beta_slow": 1.0, "original_max_position_embeddings": 4096, "truncate": false}})");
  add("OneKeyHead", R"({"num_key_value_heads": 1})");
  add("OneExpert", R"({"num_experts_per_tok": 1})");
  add("EveryExpert", R"({"num_experts_per_tok": 6})");
  add("OddSizes",
      R"({"hidden_size": 35, "intermediate_size": 15, "vocab_size": 77, "num_local_experts": 5,
          "head_dim": 10})");
  add("HeadsOfTheRelease",
      R"({"num_hidden_layers": 2, "hidden_size": 360, "intermediate_size": 72, "head_dim": 64,
          "num_attention_heads": 8, "num_key_value_heads": 1, "num_local_experts": 32,
          "num_experts_per_tok": 4, "sliding_window": 128})");
}

}  // namespace

Json TinyCase::config() const {
  Json out = parse_json(base_of(family)).value();
  const Json more = parse_json(changes).value();
  for (const auto& [key, value] : *more.as_object()) {
    out.set(key, value);
  }
  return out;
}

std::ostream& operator<<(std::ostream& out, const TinyCase& tiny) {
  return out << tiny.family << " " << tiny.name;
}

std::vector<TinyCase> tiny_cases() {
  std::vector<TinyCase> out;
  add_deepseek_v2(out);
  add_deepseek_v3(out);
  add_qwen3_moe(out);
  add_mixtral(out);
  add_glm4_moe(out);
  add_gpt_oss(out);
  return out;
}

Json hf5_spelling(const Json& config) {
  Json out = JsonObject{};
  Json rope = JsonObject{};
  for (const auto& [key, value] : *config.as_object()) {
    if (key == "rope_scaling") {
      if (value.is_null()) continue;
      for (const auto& [name, member] : *value.as_object()) {
        rope.set(name, member);
      }
    } else if (key == "rope_theta") {
      rope.set(key, value);
    } else if (key == "num_experts") {
      out.set("num_local_experts", value);
    } else {
      if (key == "partial_rotary_factor") rope.set(key, value);
      out.set(key, value);
    }
  }
  const Json* type = rope.find("type");
  if (rope.find("rope_type") == nullptr) {
    rope.set("rope_type", type != nullptr ? *type : Json("default"));
  }
  out.set("rope_parameters", rope);
  return out;
}

Json read_json(const std::filesystem::path& file) {
  std::ifstream in(file);
  return parse_json(std::string{std::istreambuf_iterator<char>(in), {}}).value();
}

}  // namespace pleiad::model::reference
