#include "model/uncomputed_keys.h"

#include <algorithm>
#include <array>
#include <string>
#include <vector>

namespace pleiad::model {
namespace {

// The value with which a key means nothing; null always does.
enum class Neutral { Off, One, On };

struct KeyRule {
  std::string_view key;
  Neutral neutral;
};

// Keys of published configurations that change what a decoder computes.
constexpr std::array kRules = {
    // attention
    KeyRule{"add_qkv_bias", Neutral::Off},
    KeyRule{"attention_bias", Neutral::Off},
    KeyRule{"attention_chunk_size", Neutral::Off},
    KeyRule{"attention_multiplier", Neutral::Off},
    KeyRule{"attention_out_bias", Neutral::Off},
    KeyRule{"attn_logit_softcapping", Neutral::Off},
    KeyRule{"attn_output_gate", Neutral::Off},
    KeyRule{"attn_temperature_tuning", Neutral::Off},
    KeyRule{"clip_qkv", Neutral::Off},
    KeyRule{"dual_chunk_attention_config", Neutral::Off},
    KeyRule{"full_attention_interval", Neutral::One},
    KeyRule{"index_topk", Neutral::Off},
    KeyRule{"kv_lora_rank", Neutral::Off},
    KeyRule{"q_lora_rank", Neutral::Off},
    KeyRule{"qk_layernorm", Neutral::Off},
    KeyRule{"qkv_bias", Neutral::Off},
    KeyRule{"query_pre_attn_scalar", Neutral::Off},
    KeyRule{"use_bias", Neutral::Off},
    KeyRule{"use_bidirectional_attention", Neutral::Off},
    KeyRule{"use_qk_norm", Neutral::Off},
    // positions
    KeyRule{"local_rope_theta", Neutral::Off},
    KeyRule{"no_rope_layer_interval", Neutral::Off},
    KeyRule{"no_rope_layers", Neutral::Off},
    KeyRule{"partial_rotary_factor", Neutral::One},
    KeyRule{"rope_interleave", Neutral::Off},
    KeyRule{"rope_local_base_freq", Neutral::Off},
    KeyRule{"rotary_dim", Neutral::Off},
    KeyRule{"rotary_pct", Neutral::One},
    // experts
    KeyRule{"decoder_sparse_step", Neutral::One},
    KeyRule{"first_k_dense_replace", Neutral::Off},
    KeyRule{"interleave_moe_layer_step", Neutral::One},
    KeyRule{"mlp_only_layers", Neutral::Off},
    KeyRule{"moe_layer_freq", Neutral::One},
    KeyRule{"n_group", Neutral::One},
    KeyRule{"n_shared_experts", Neutral::Off},
    KeyRule{"norm_topk_prob", Neutral::On},
    KeyRule{"num_shared_experts", Neutral::Off},
    KeyRule{"routed_scaling_factor", Neutral::One},
    KeyRule{"router_logit_softcapping", Neutral::Off},
    KeyRule{"shared_expert_intermediate_size", Neutral::Off},
    KeyRule{"swiglu_limit", Neutral::Off},
    KeyRule{"topk_group", Neutral::One},
    KeyRule{"use_routing_bias", Neutral::Off},
    KeyRule{"zero_expert_num", Neutral::Off},
    // the whole
    KeyRule{"embedding_multiplier", Neutral::One},
    KeyRule{"final_logit_softcapping", Neutral::Off},
    KeyRule{"logit_scale", Neutral::One},
    KeyRule{"logits_scaling", Neutral::One},
    KeyRule{"residual_multiplier", Neutral::One},
    KeyRule{"sandwich_norm", Neutral::Off},
    KeyRule{"scale_depth", Neutral::Off},
    KeyRule{"scale_emb", Neutral::One},
};

bool is_neutral(const Json& value, Neutral neutral) {
  const bool is_empty_list = value.is_array() && value.as_array()->empty();
  switch (neutral) {
    case Neutral::Off:
      return value == Json(false) || value.as_double() == 0.0 || is_empty_list;
    case Neutral::One:
      return value.as_double() == 1.0;
    case Neutral::On:
      return value == Json(true);
  }
  return false;
}

std::string_view supported_value(Neutral neutral) {
  switch (neutral) {
    case Neutral::Off:
      return "false, 0 or none";
    case Neutral::One:
      return "1";
    case Neutral::On:
      return "true";
  }
  return "";
}

// The gates that families without these keys have.
void refuse_other_gates(ConfigReader& reader) {
  for (const auto& [key, own] :
       {std::pair{"topk_method", "greedy"}, std::pair{"scoring_func", "softmax"}}) {
    if (reader.was_read(key)) continue;
    const std::string value = reader.text_or(key, own);
    if (value != own) reader.refuse(key, value, own);
  }
}

// A window that the parser did not ask for, or one for some layers only.
void refuse_other_windows(ConfigReader& reader, const DecoderConfig& out) {
  const bool has_window = std::ranges::any_of(out.layers, &DecoderLayer::window);
  const bool is_off = !reader.boolean_or("use_sliding_window", true);
  if (!reader.was_read("sliding_window") && reader.has("sliding_window") && !is_off) {
    reader.refuse("sliding_window", std::to_string(reader.integer("sliding_window", 0)), "null");
  }
  const std::int64_t unwindowed = reader.integer_or("max_window_layers", 0, 0);
  if (has_window && unwindowed > 0 && !reader.was_read("layer_types")) {
    // Some programs window the layers from here on, others all of them.
    reader.refuse("max_window_layers", std::to_string(unwindowed), "0 where a window is in use");
  }
}

// Kinds of layers are read by few families; in others they must say what is computed anyway.
void refuse_other_layers(ConfigReader& reader, const DecoderConfig& out) {
  if (reader.was_read("layer_types")) return;
  const std::vector<std::string> types = reader.texts("layer_types");
  if (types.empty()) return;
  if (types.size() != out.layers.size()) {
    reader.fail(invalid_input(
        "config.json: {} layer_types for num_hidden_layers {}", types.size(), out.layers.size()
    ));
    return;
  }
  for (std::size_t i = 0; i < types.size(); ++i) {
    const char* own = out.layers[i].window > 0 ? "sliding_attention" : "full_attention";
    if (types[i] != own) reader.refuse("layer_types", types[i], own);
  }
}

}  // namespace

void refuse_uncomputed_keys(ConfigReader& reader, const DecoderConfig& out) {
  for (const auto& [key, neutral] : kRules) {
    const Json* value = reader.unread(key);
    if (value == nullptr || is_neutral(*value, neutral)) continue;
    reader.refuse(key, value->dump(), supported_value(neutral));
  }
  refuse_other_gates(reader);
  refuse_other_windows(reader, out);
  refuse_other_layers(reader, out);
}

}  // namespace pleiad::model
