#include <string>

#include "model/config_parts.h"
#include "model/families.h"
#include "model/uncomputed_keys.h"

namespace pleiad::model {
namespace {

// Windowed layers are those that layer_types says, or every other one, the first included.
void read_layers(ConfigReader& reader, DecoderConfig& out) {
  const std::int64_t count = read_layer_count(reader);
  const std::int64_t window = reader.integer("sliding_window", 1);
  const std::vector<std::string> types = reader.texts("layer_types");
  if (!types.empty() && static_cast<std::int64_t>(types.size()) != count) {
    reader.fail(
        invalid_input("config.json: {} layer_types for num_hidden_layers {}", types.size(), count)
    );
    return;
  }
  for (std::int64_t i = 0; i < count; ++i) {
    const std::string type = !types.empty() ? types[static_cast<std::size_t>(i)]
                             : i % 2 == 0   ? "sliding_attention"
                                            : "full_attention";
    if (type != "sliding_attention" && type != "full_attention") {
      reader.refuse("layer_types", type, "sliding_attention, full_attention");
    }
    out.layers.push_back({.moe = true, .window = type == "sliding_attention" ? window : 0});
  }
}

}  // namespace

Result<DecoderConfig> parse_gpt_oss(const Json& config) {
  ConfigReader reader(config);
  DecoderConfig out;
  read_sizes(reader, out);
  GqaShape attention = read_gqa(reader, out);
  attention.sinks = true;
  attention.qkv_bias = reader.boolean_or("attention_bias", true);
  attention.out_bias = attention.qkv_bias;
  out.attention = attention;
  if (!reader.has("rope_scaling") && !reader.has("rope_parameters")) {
    reader.fail(invalid_input("config.json: rope_scaling is missing"));
  }
  read_rope(reader, attention.rope, 150000.0, out);
  read_layers(reader, out);
  out.moe.intermediate = reader.integer("intermediate_size", 1);
  out.moe.activation_limit = static_cast<float>(reader.number_or("swiglu_limit", 7.0));
  if (!(out.moe.activation_limit > 0)) {
    reader.fail(
        invalid_input("config.json: swiglu_limit must be above 0, got {}", out.moe.activation_limit)
    );
  }
  kernels::GateOptions& gate = out.moe.gate;
  gate.experts = reader.integer("num_local_experts", 1);
  gate.topk =
      reader.integer_or("num_experts_per_tok", 1, reader.integer_or("experts_per_token", 1, 4));
  gate.score = kernels::GateScore::SoftmaxOfChosen;
  check_gate(reader, gate);
  out.names.gate = "router.weight";
  out.names.logit_bias = "router.bias";
  out.names.stacked_experts = true;
  refuse_uncomputed_keys(reader, out);
  PLEIAD_TRY(reader.result());
  return out;
}

}  // namespace pleiad::model
