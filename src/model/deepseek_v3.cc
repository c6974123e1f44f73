#include "model/config_parts.h"
#include "model/families.h"
#include "model/uncomputed_keys.h"

namespace pleiad::model {

Result<DecoderConfig> parse_deepseek_v3(const Json& config) {
  ConfigReader reader(config);
  DecoderConfig out;
  read_sizes(reader, out);
  read_mla(reader, out);
  set_layers(
      out,
      read_layer_count(reader),
      reader.integer_or("first_k_dense_replace", 0, 0),
      reader.integer_or("moe_layer_freq", 1, 1)
  );
  out.intermediate = reader.integer("intermediate_size", 1);
  read_grouped_experts(reader, out);
  // What these default to differs from program to program.
  for (const char* key : {"n_group", "topk_group", "routed_scaling_factor"}) {
    if (!reader.has(key)) reader.fail(invalid_input("config.json: {} is missing", key));
  }
  const std::string method = reader.text_or("topk_method", "noaux_tc");
  const std::string score = reader.text_or("scoring_func", "sigmoid");
  if (method != "noaux_tc") reader.refuse("topk_method", method, "noaux_tc");
  if (score != "sigmoid") reader.refuse("scoring_func", score, "sigmoid");
  kernels::GateOptions& gate = out.moe.gate;
  gate.score = kernels::GateScore::Sigmoid;
  gate.group_score = kernels::GroupScore::SumOfTopTwo;
  gate.normalize = reader.boolean_or("norm_topk_prob", true);
  check_gate(reader, gate);
  out.names.choice_bias = "gate.e_score_correction_bias";
  refuse_uncomputed_keys(reader, out);
  PLEIAD_TRY(reader.result());
  return out;
}

}  // namespace pleiad::model
