#include "tests/model/reference_config.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string_view>

#include <fmt/format.h>

#include "base/check.h"

namespace pleiad::model::reference {
namespace {

const Json* find(const Json& json, std::string_view key) {
  const Json* value = json.find(key);
  return value == nullptr || value->is_null() ? nullptr : value;
}

double number(const Json& json, std::string_view key, std::optional<double> fallback = {}) {
  const Json* value = find(json, key);
  PLEIAD_CHECK(value != nullptr || fallback.has_value(), key);
  return value != nullptr ? value->as_double().value() : *fallback;
}

std::int64_t
integer(const Json& json, std::string_view key, std::optional<std::int64_t> fallback = {}) {
  const Json* value = find(json, key);
  PLEIAD_CHECK(value != nullptr || fallback.has_value(), key);
  return value != nullptr ? value->as_int().value() : *fallback;
}

bool flag(const Json& json, std::string_view key, bool fallback) {
  const Json* value = find(json, key);
  return value != nullptr ? value->as_bool().value() : fallback;
}

std::string text(const Json& json, std::string_view key) {
  const Json* value = find(json, key);
  return value != nullptr ? *value->as_string() : std::string();
}

Family read_family(const Json& json) {
  const std::string name = *json.find("architectures")->as_array()->at(0).as_string();
  if (name == "DeepseekV2ForCausalLM") return Family::DeepseekV2;
  if (name == "DeepseekV3ForCausalLM") return Family::DeepseekV3;
  if (name == "Qwen3MoeForCausalLM") return Family::Qwen3Moe;
  if (name == "MixtralForCausalLM") return Family::Mixtral;
  if (name == "Glm4MoeForCausalLM") return Family::Glm4Moe;
  PLEIAD_CHECK(name == "GptOssForCausalLM", name);
  return Family::GptOss;
}

// YaRN's 0.1 m ln(f) + 1.
double yarn_scale(double factor, double m) {
  return factor > 1 ? 0.1 * m * std::log(factor) + 1 : 1.0;
}

Rope read_rope(const Json& json, std::int64_t width) {
  const Json* parameters = find(json, "rope_parameters");
  if (parameters == nullptr) parameters = find(json, "rope_scaling");
  const Json rope = parameters != nullptr ? *parameters : Json(JsonObject{});
  Rope out;
  out.width = width;
  out.theta =
      find(json, "rope_theta") != nullptr ? number(json, "rope_theta") : number(rope, "rope_theta");
  const std::string type =
      find(rope, "rope_type") != nullptr ? text(rope, "rope_type") : text(rope, "type");
  if (type.empty() || type == "default") return out;
  PLEIAD_CHECK(type == "yarn", type);
  out.factor = number(rope, "factor");
  out.original_positions = number(rope, "original_max_position_embeddings");
  out.beta_fast = number(rope, "beta_fast", 32);
  out.beta_slow = number(rope, "beta_slow", 1);
  out.truncate = flag(rope, "truncate", true);
  // Without either mscale this is 0.1 ln(f) + 1.
  out.magnitude = yarn_scale(out.factor, number(rope, "mscale", 1)) /
                  yarn_scale(out.factor, number(rope, "mscale_all_dim", 0));
  out.magnitude = number(rope, "attention_factor", out.magnitude);
  return out;
}

double latent_score_scale(const Json& json, const Config& config) {
  const Json* parameters = find(json, "rope_parameters");
  if (parameters == nullptr) parameters = find(json, "rope_scaling");
  double m = 1.0;
  if (parameters != nullptr && config.rope.factor > 1) {
    m = yarn_scale(config.rope.factor, number(*parameters, "mscale_all_dim", 0));
  }
  return m * m / std::sqrt(static_cast<double>(config.latent.nope + config.rope.width));
}

void read_attention(const Json& json, Config& config) {
  config.heads = integer(json, "num_attention_heads");
  config.kv_heads = integer(json, "num_key_value_heads", config.heads);
  if (config.is_deepseek()) {
    config.latent = {
        .q_rank = integer(json, "q_lora_rank", 0),
        .kv_rank = integer(json, "kv_lora_rank"),
        .nope = integer(json, "qk_nope_head_dim"),
        .value = integer(json, "v_head_dim"),
    };
    config.rope = read_rope(json, integer(json, "qk_rope_head_dim"));
    config.rope.interleaved = flag(json, "rope_interleave", true);
    config.score_scale = latent_score_scale(json, config);
    return;
  }
  config.head = integer(json, "head_dim", config.hidden / config.heads);
  double turned = 1.0;
  if (config.family == Family::Glm4Moe) turned = number(json, "partial_rotary_factor", 0.5);
  config.rope =
      read_rope(json, static_cast<std::int64_t>(static_cast<double>(config.head) * turned));
  config.rope.interleaved = false;
  config.score_scale = 1 / std::sqrt(static_cast<double>(config.head));
  const bool is_gpt_oss = config.family == Family::GptOss;
  const bool is_glm = config.family == Family::Glm4Moe;
  config.qk_norm =
      config.family == Family::Qwen3Moe || (is_glm && flag(json, "use_qk_norm", false));
  config.qkv_bias = flag(json, "attention_bias", is_gpt_oss);
  config.out_bias = config.qkv_bias && !is_glm;
}

void read_experts(const Json& json, Config& config) {
  Experts& experts = config.experts;
  for (const char* key : {"n_routed_experts", "num_experts", "num_local_experts"}) {
    if (find(json, key) != nullptr) experts.count = integer(json, key);
  }
  experts.topk = integer(json, "num_experts_per_tok");
  experts.width = integer(json, "moe_intermediate_size", integer(json, "intermediate_size"));
  experts.shared_width = integer(json, "n_shared_experts", 0) * experts.width;
  experts.scale = number(json, "routed_scaling_factor", 1.0);
  const bool has_groups =
      config.family != Family::DeepseekV2 || text(json, "topk_method") == "group_limited_greedy";
  if (has_groups) {
    experts.groups = integer(json, "n_group", 1);
    experts.topk_groups = integer(json, "topk_group", 1);
  }
  experts.normalise = config.family == Family::Mixtral || flag(json, "norm_topk_prob", false);
}

bool is_moe_layer(const Json& json, Family family, std::int64_t layer) {
  switch (family) {
    case Family::DeepseekV2:
    case Family::DeepseekV3:
    case Family::Glm4Moe:
      return layer >= integer(json, "first_k_dense_replace") &&
             layer % integer(json, "moe_layer_freq", 1) == 0;
    case Family::Qwen3Moe: {
      const Json* dense = find(json, "mlp_only_layers");
      const bool is_listed =
          dense != nullptr && std::ranges::count(*dense->as_array(), Json(layer)) > 0;
      return !is_listed && (layer + 1) % integer(json, "decoder_sparse_step", 1) == 0;
    }
    case Family::Mixtral:
    case Family::GptOss:
      return true;
  }
  return true;
}

std::int64_t window_of(const Json& json, Family family, std::int64_t layer) {
  const std::int64_t window = integer(json, "sliding_window", 0);
  if (family == Family::Mixtral) return window;
  if (family == Family::Qwen3Moe) return flag(json, "use_sliding_window", false) ? window : 0;
  if (family != Family::GptOss) return 0;
  const Json* types = find(json, "layer_types");
  if (types == nullptr) return layer % 2 == 0 ? window : 0;
  const std::string* type = types->as_array()->at(static_cast<std::size_t>(layer)).as_string();
  return *type == "sliding_attention" ? window : 0;
}

}  // namespace

Config read_config(const Json& json) {
  Config config;
  config.family = read_family(json);
  config.vocabulary = integer(json, "vocab_size");
  config.hidden = integer(json, "hidden_size");
  config.dense_width = integer(json, "intermediate_size");
  config.eps = number(json, "rms_norm_eps");
  config.tied = flag(json, "tie_word_embeddings", false);
  config.activation_limit = number(json, "swiglu_limit", 7.0);
  read_attention(json, config);
  read_experts(json, config);
  const std::int64_t layers = integer(json, "num_hidden_layers");
  for (std::int64_t i = 0; i < layers; ++i) {
    config.layers.push_back(
        {.moe = is_moe_layer(json, config.family, i), .window = window_of(json, config.family, i)}
    );
  }
  return config;
}

std::string layer_prefix(std::size_t layer) {
  return fmt::format("model.layers.{}.", layer);
}

}  // namespace pleiad::model::reference
