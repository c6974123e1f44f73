#include "model/deepseek_v3_config.h"

#include <cmath>
#include <string>

#include "model/config_reader.h"

namespace pleiad::model {
namespace {

// YaRN's attention temperature (arXiv 2309.00071, eq. 22, with DeepSeek's mscale).
double yarn_mscale(double factor, double mscale) {
  return factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

void read_yarn(ConfigReader& top, const Json& scaling, const char* name, DeepseekV3Config& out) {
  ConfigReader reader(scaling, std::string(name) + ".");
  const std::string kind = reader.text_or("rope_type", reader.text_or("type", "default"));
  out.rope_theta = reader.number_or("rope_theta", out.rope_theta);
  if (kind == "yarn") {
    const double factor = reader.number("factor");
    const double mscale = reader.number_or("mscale", 0.0);
    const double mscale_all_dim = reader.number_or("mscale_all_dim", 0.0);
    out.rope_scaling = {
        .factor = factor,
        .original_positions = static_cast<double>(
            reader.integer_or("original_max_position_embeddings", 1, out.positions_max)
        ),
        .beta_fast = reader.number_or("beta_fast", 32.0),
        .beta_slow = reader.number_or("beta_slow", 1.0),
        .truncate = reader.boolean_or("truncate", true),
    };
    const bool ratio = mscale != 0.0 && mscale_all_dim != 0.0;
    const double fallback = ratio
                                ? yarn_mscale(factor, mscale) / yarn_mscale(factor, mscale_all_dim)
                                : yarn_mscale(factor, 1.0);
    out.rope_magnitude = reader.number_or("attention_factor", fallback);
    if (mscale_all_dim != 0.0) {
      const double m = yarn_mscale(factor, mscale_all_dim);
      out.attention_scale = static_cast<float>(m * m);
    }
  } else if (kind != "default") {
    reader.refuse("rope_type", kind, "yarn, default");
  }
  if (const auto result = reader.result(); !result.ok()) top.fail(result.error());
}

void read_rope(ConfigReader& reader, DeepseekV3Config& out) {
  out.rope_theta = reader.number_or("rope_theta", 10000.0);
  if (const Json* parameters = reader.object("rope_parameters")) {
    read_yarn(reader, *parameters, "rope_parameters", out);
  } else if (const Json* scaling = reader.object("rope_scaling")) {
    read_yarn(reader, *scaling, "rope_scaling", out);
  }
  const bool interleaved = reader.boolean_or("rope_interleave", true);
  out.rope_pairs = interleaved ? kernels::RopePairs::Interleaved : kernels::RopePairs::Halves;
  if (!(out.rope_theta > 1.0)) {
    reader.fail(invalid_input("config.json: rope_theta must be above 1, got {}", out.rope_theta));
  }
}

void read_gate(ConfigReader& reader, DeepseekV3Config& out) {
  const std::string method = reader.text_or("topk_method", "noaux_tc");
  const std::string score = reader.text_or("scoring_func", "sigmoid");
  if (method != "noaux_tc") reader.refuse("topk_method", method, "noaux_tc");
  if (score != "sigmoid") reader.refuse("scoring_func", score, "sigmoid");
  kernels::GateOptions& gate = out.gate;
  gate.experts = reader.integer("n_routed_experts", 1);
  gate.topk = reader.integer("num_experts_per_tok", 1);
  gate.groups = reader.integer_or("n_group", 1, 1);
  gate.topk_groups = reader.integer_or("topk_group", 1, 1);
  gate.score = kernels::GateScore::Sigmoid;
  gate.group_score = kernels::GroupScore::SumOfTopTwo;
  gate.normalize = reader.boolean_or("norm_topk_prob", true);
  gate.scale = static_cast<float>(reader.number_or("routed_scaling_factor", 1.0));
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
}

void refuse_other_maths(ConfigReader& reader) {
  if (reader.boolean_or("attention_bias", false)) reader.refuse("attention_bias", "true", "false");
  const std::string activation = reader.text_or("hidden_act", "silu");
  if (activation != "silu") reader.refuse("hidden_act", activation, "silu");
  if (reader.has("quantization_config")) {
    reader.refuse("quantization_config", "(present)", "unquantised BF16, F16 and F32 checkpoints");
  }
}

}  // namespace

Result<DeepseekV3Config> parse_deepseek_v3_config(const Json& config) {
  ConfigReader reader(config);
  DeepseekV3Config out;
  out.vocabulary = reader.integer("vocab_size", 1);
  out.hidden = reader.integer("hidden_size", 1);
  out.layers = reader.integer("num_hidden_layers", 1);
  out.dense_layers = reader.integer_or("first_k_dense_replace", 0, 0);
  out.moe_layer_freq = reader.integer_or("moe_layer_freq", 1, 1);
  out.intermediate = reader.integer("intermediate_size", 1);
  out.moe_intermediate = reader.integer("moe_intermediate_size", 1);
  out.shared_experts = reader.integer_or("n_shared_experts", 0, 0);
  out.heads = reader.integer("num_attention_heads", 1);
  out.q_lora = reader.integer_or("q_lora_rank", 1, 0);
  out.kv_lora = reader.integer("kv_lora_rank", 1);
  out.nope = reader.integer("qk_nope_head_dim", 1);
  out.rope = reader.integer("qk_rope_head_dim", 2);
  out.value = reader.integer("v_head_dim", 1);
  out.positions_max = reader.integer("max_position_embeddings", 1);
  out.rms_epsilon = static_cast<float>(reader.number_or("rms_norm_eps", 1e-6));
  out.tied_embeddings = reader.boolean_or("tie_word_embeddings", false);
  if (out.rope % 2 != 0) {
    reader.fail(invalid_input("config.json: qk_rope_head_dim must be even, got {}", out.rope));
  }
  read_rope(reader, out);
  read_gate(reader, out);
  refuse_other_maths(reader);
  PLEIAD_TRY(reader.result());
  out.attention_scale /= std::sqrt(static_cast<float>(out.nope + out.rope));
  return out;
}

}  // namespace pleiad::model
