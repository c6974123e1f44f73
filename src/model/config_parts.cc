#include "model/config_parts.h"

#include <algorithm>
#include <cmath>
#include <string>

#include <fmt/format.h>

#include "kernels/tree_combine.h"

namespace pleiad::model {
namespace {

constexpr std::int64_t kLayersMax = 4096;

// YaRN's attention temperature (arXiv 2309.00071, eq. 22, with DeepSeek's mscale).
double yarn_mscale(double factor, double mscale) {
  return factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

void read_yarn(ConfigReader& reader, std::int64_t positions_max, RopeConfig& out) {
  const double factor = reader.number("factor");
  const double mscale = reader.number_or("mscale", 0.0);
  const double mscale_all_dim = reader.number_or("mscale_all_dim", 0.0);
  out.scaling = {
      .factor = factor,
      .original_positions = static_cast<double>(
          reader.integer_or("original_max_position_embeddings", 1, positions_max)
      ),
      .beta_fast = reader.number_or("beta_fast", 32.0),
      .beta_slow = reader.number_or("beta_slow", 1.0),
      .truncate = reader.boolean_or("truncate", true),
  };
  const bool ratio = mscale != 0.0 && mscale_all_dim != 0.0;
  const double fallback = ratio ? yarn_mscale(factor, mscale) / yarn_mscale(factor, mscale_all_dim)
                                : yarn_mscale(factor, 1.0);
  out.magnitude = reader.number_or("attention_factor", fallback);
  if (mscale_all_dim != 0.0) out.score_magnitude = yarn_mscale(factor, mscale_all_dim);
  if (!(factor >= 1.0)) {
    reader.fail(invalid_input("config.json: YaRN's factor must be 1 or more, got {}", factor));
  }
  if (!(out.scaling.beta_fast > 0 && out.scaling.beta_slow > 0)) {
    reader.fail(invalid_input("config.json: YaRN's beta_fast and beta_slow must be above 0"));
  }
  // DeepSeek's own program and Hugging Face's disagree on what one without the other means.
  if ((mscale != 0.0) != (mscale_all_dim != 0.0)) {
    reader.fail(unsupported(
        "config.json: YaRN's mscale = {} with mscale_all_dim = {} is not supported; supported: "
        "both or neither",
        mscale,
        mscale_all_dim
    ));
  }
}

// rope_scaling or rope_parameters.
void read_scaling(ConfigReader& top, const Json& object, const char* name, DecoderConfig& out) {
  ConfigReader reader(object, std::string(name) + ".");
  const std::string kind = reader.text_or("rope_type", reader.text_or("type", "default"));
  out.rope.theta = reader.number_or("rope_theta", out.rope.theta);
  const double share = reader.number_or("partial_rotary_factor", 1.0);
  if (share != 1.0 && !top.was_read("partial_rotary_factor")) {
    reader.refuse("partial_rotary_factor", fmt::format("{}", share), "1");
  }
  if (kind == "yarn") {
    read_yarn(reader, out.positions_max, out.rope);
  } else if (kind != "default") {
    reader.refuse("rope_type", kind, "yarn, default");
  }
  // Every member of this object is about the maths, but for a note on how the model was made.
  for (const std::string& key : reader.unread_keys()) {
    if (key == "finetuned") continue;
    reader.refuse(key, object.find(key)->dump(), "nothing with rope_type " + kind);
  }
  if (const auto result = reader.result(); !result.ok()) top.fail(result.error());
}

}  // namespace

void read_sizes(ConfigReader& reader, DecoderConfig& out) {
  out.vocabulary = reader.integer("vocab_size", 1);
  out.hidden = reader.integer("hidden_size", 1);
  out.positions_max = reader.integer("max_position_embeddings", 1);
  out.rms_epsilon = static_cast<float>(reader.number("rms_norm_eps"));
  out.tied_embeddings = reader.boolean_or("tie_word_embeddings", false);
  out.moe.hidden = out.hidden;
  const std::string activation = reader.text_or("hidden_act", "silu");
  if (activation != "silu") reader.refuse("hidden_act", activation, "silu");
  if (reader.boolean_or("mlp_bias", false)) reader.refuse("mlp_bias", "true", "false");
}

std::int64_t read_layer_count(ConfigReader& reader) {
  const std::int64_t count = reader.integer("num_hidden_layers", 1);
  if (count <= kLayersMax) return count;
  reader.fail(unsupported(
      "config.json: num_hidden_layers = {} is not supported; supported: up to {}", count, kLayersMax
  ));
  return kLayersMax;
}

void set_layers(
    DecoderConfig& out,
    std::int64_t count,
    std::int64_t dense_layers,
    std::int64_t frequency
) {
  for (std::int64_t i = 0; i < count; ++i) {
    out.layers.push_back({.moe = i >= dense_layers && i % frequency == 0});
  }
}

void read_rope(ConfigReader& reader, std::int64_t width, double theta, DecoderConfig& out) {
  out.rope.width = width;
  out.rope.theta = reader.number_or("rope_theta", theta);
  for (const char* name : {"rope_parameters", "rope_scaling"}) {
    if (reader.has(name) && reader.object(name) == nullptr) {
      reader.fail(invalid_input("config.json: {} must be an object", name));
    }
  }
  if (const Json* parameters = reader.object("rope_parameters")) {
    read_scaling(reader, *parameters, "rope_parameters", out);
  } else if (const Json* scaling = reader.object("rope_scaling")) {
    read_scaling(reader, *scaling, "rope_scaling", out);
  }
  if (!(out.rope.theta > 1.0)) {
    reader.fail(invalid_input("config.json: rope_theta must be above 1, got {}", out.rope.theta));
  }
  if (width < 2 || width % 2 != 0) {
    reader.fail(invalid_input("config.json: {} elements of a head cannot turn in pairs", width));
  }
}

std::int64_t read_rotary_width(ConfigReader& reader, std::int64_t head, double share) {
  share = reader.number_or("partial_rotary_factor", share);
  if (const Json* parameters = reader.object("rope_parameters")) {
    share = ConfigReader(*parameters, "rope_parameters.").number_or("partial_rotary_factor", share);
  }
  if (!(share > 0.0 && share <= 1.0)) {
    reader.fail(invalid_input("config.json: partial_rotary_factor must be in (0, 1], got {}", share)
    );
    share = 1.0;
  }
  return static_cast<std::int64_t>(static_cast<double>(head) * share);
}

GqaShape read_gqa(ConfigReader& reader, const DecoderConfig& sizes) {
  GqaShape shape;
  shape.hidden = sizes.hidden;
  shape.rms_epsilon = sizes.rms_epsilon;
  shape.heads = reader.integer("num_attention_heads", 1);
  shape.kv_heads = reader.integer_or("num_key_value_heads", 1, shape.heads);
  shape.head =
      reader.integer_or("head_dim", 1, std::max<std::int64_t>(1, sizes.hidden / shape.heads));
  shape.rope = shape.head;
  shape.scale = 1.0F / std::sqrt(static_cast<float>(shape.head));
  if (shape.heads % shape.kv_heads != 0) {
    reader.fail(invalid_input(
        "config.json: num_attention_heads {} is not a multiple of num_key_value_heads {}",
        shape.heads,
        shape.kv_heads
    ));
  }
  return shape;
}

void read_mla(ConfigReader& reader, DecoderConfig& out) {
  if (reader.boolean_or("attention_bias", false)) reader.refuse("attention_bias", "true", "false");
  MlaShape shape;
  shape.hidden = out.hidden;
  shape.rms_epsilon = out.rms_epsilon;
  shape.heads = reader.integer("num_attention_heads", 1);
  shape.q_lora = reader.integer_or("q_lora_rank", 1, 0);
  shape.kv_lora = reader.integer("kv_lora_rank", 1);
  shape.nope = reader.integer("qk_nope_head_dim", 1);
  shape.rope = reader.integer("qk_rope_head_dim", 2);
  shape.value = reader.integer("v_head_dim", 1);
  if (shape.rope % 2 != 0) {
    reader.fail(invalid_input("config.json: qk_rope_head_dim must be even, got {}", shape.rope));
  }
  read_rope(reader, shape.rope, 10000.0, out);
  const bool interleaved = reader.boolean_or("rope_interleave", true);
  out.rope.pairs = interleaved ? kernels::RopePairs::Interleaved : kernels::RopePairs::Halves;
  shape.rope_pairs = out.rope.pairs;
  const auto m = static_cast<float>(out.rope.score_magnitude);
  shape.scale = m * m / std::sqrt(static_cast<float>(shape.nope + shape.rope));
  out.attention = shape;
}

void read_grouped_experts(ConfigReader& reader, DecoderConfig& out) {
  out.moe.intermediate = reader.integer("moe_intermediate_size", 1);
  out.moe.shared_intermediate = reader.integer_or("n_shared_experts", 0, 0) * out.moe.intermediate;
  kernels::GateOptions& gate = out.moe.gate;
  gate.experts = reader.integer("n_routed_experts", 1);
  gate.topk = reader.integer("num_experts_per_tok", 1);
  gate.groups = reader.integer_or("n_group", 1, 1);
  gate.topk_groups = reader.integer_or("topk_group", 1, 1);
  gate.scale = static_cast<float>(reader.number_or("routed_scaling_factor", 1.0));
}

void check_gate(ConfigReader& reader, const kernels::GateOptions& gate) {
  const bool groups_fit = gate.experts % gate.groups == 0 && gate.topk_groups <= gate.groups &&
                          gate.topk <= gate.experts / gate.groups * gate.topk_groups;
  if (!groups_fit) {
    reader.fail(invalid_input(
        "config.json: {} experts in {} groups (topk_group {}) cannot give num_experts_per_tok {}",
        gate.experts,
        gate.groups,
        gate.topk_groups,
        gate.topk
    ));
  }
  if (gate.experts > kernels::kExpertsMax || gate.topk > kernels::kTopkMax) {
    reader.fail(unsupported(
        "config.json: {} experts, {} of them per token; supported: up to {} and {}",
        gate.experts,
        gate.topk,
        kernels::kExpertsMax,
        kernels::kTopkMax
    ));
  }
}

}  // namespace pleiad::model
