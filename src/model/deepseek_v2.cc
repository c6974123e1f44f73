#include "model/config_parts.h"
#include "model/families.h"
#include "model/uncomputed_keys.h"

namespace pleiad::model {

Result<DecoderConfig> parse_deepseek_v2(const Json& config) {
  ConfigReader reader(config);
  DecoderConfig out;
  read_sizes(reader, out);
  read_mla(reader, out);
  if (out.rope.pairs == kernels::RopePairs::Halves) {
    reader.refuse("rope_interleave", "false", "true");
  }
  set_layers(
      out,
      read_layer_count(reader),
      reader.integer_or("first_k_dense_replace", 0, 0),
      reader.integer_or("moe_layer_freq", 1, 1)
  );
  out.intermediate = reader.integer("intermediate_size", 1);
  read_grouped_experts(reader, out);
  kernels::GateOptions& gate = out.moe.gate;
  const std::string method = reader.text_or("topk_method", "greedy");
  const std::string score = reader.text_or("scoring_func", "softmax");
  if (method == "greedy") {
    gate.groups = 1;
    gate.topk_groups = 1;
  } else if (method != "group_limited_greedy") {
    reader.refuse("topk_method", method, "greedy, group_limited_greedy");
  }
  if (score != "softmax") reader.refuse("scoring_func", score, "softmax");
  gate.score = kernels::GateScore::Softmax;
  gate.group_score = kernels::GroupScore::Max;
  gate.normalize = reader.boolean_or("norm_topk_prob", false);
  check_gate(reader, gate);
  refuse_uncomputed_keys(reader, out);
  PLEIAD_TRY(reader.result());
  return out;
}

}  // namespace pleiad::model
