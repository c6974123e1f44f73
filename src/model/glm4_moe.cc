#include <string>

#include "model/config_parts.h"
#include "model/families.h"
#include "model/uncomputed_keys.h"

namespace pleiad::model {

Result<DecoderConfig> parse_glm4_moe(const Json& config) {
  ConfigReader reader(config);
  DecoderConfig out;
  read_sizes(reader, out);
  GqaShape attention = read_gqa(reader, out);
  attention.rope = read_rotary_width(reader, attention.head, 0.5);
  attention.qk_norm = reader.boolean_or("use_qk_norm", false);
  attention.qkv_bias = reader.boolean_or("attention_bias", false);
  out.attention = attention;
  read_rope(reader, attention.rope, 10000.0, out);
  set_layers(out, read_layer_count(reader), reader.integer_or("first_k_dense_replace", 0, 0), 1);
  out.intermediate = reader.integer("intermediate_size", 1);
  read_grouped_experts(reader, out);
  kernels::GateOptions& gate = out.moe.gate;
  gate.score = kernels::GateScore::Sigmoid;
  gate.group_score = kernels::GroupScore::SumOfTopTwo;
  gate.normalize = reader.boolean_or("norm_topk_prob", true);
  const std::string method = reader.text_or("topk_method", "noaux_tc");
  const std::string score = reader.text_or("scoring_func", "sigmoid");
  if (method != "noaux_tc") reader.refuse("topk_method", method, "noaux_tc");
  if (score != "sigmoid") reader.refuse("scoring_func", score, "sigmoid");
  check_gate(reader, gate);
  out.names.choice_bias = "gate.e_score_correction_bias";
  refuse_uncomputed_keys(reader, out);
  PLEIAD_TRY(reader.result());
  return out;
}

}  // namespace pleiad::model
