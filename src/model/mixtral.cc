#include "model/config_parts.h"
#include "model/families.h"
#include "model/uncomputed_keys.h"

namespace pleiad::model {

Result<DecoderConfig> parse_mixtral(const Json& config) {
  ConfigReader reader(config);
  DecoderConfig out;
  read_sizes(reader, out);
  const GqaShape attention = read_gqa(reader, out);
  out.attention = attention;
  read_rope(reader, attention.rope, 1e6, out);
  set_layers(out, read_layer_count(reader), 0, 1);
  const std::int64_t window = reader.integer_or("sliding_window", 1, 0);
  if (window > 0 && !reader.boolean_or("use_sliding_window", true)) {
    reader.refuse("use_sliding_window", "false", "true where sliding_window is set");
  }
  for (DecoderLayer& layer : out.layers) {
    layer.window = window;
  }
  out.moe.intermediate = reader.integer("intermediate_size", 1);
  kernels::GateOptions& gate = out.moe.gate;
  gate.experts = reader.integer("num_local_experts", 1);
  gate.topk = reader.integer("num_experts_per_tok", 1);
  gate.score = kernels::GateScore::Softmax;
  gate.normalize = true;
  check_gate(reader, gate);
  out.names.moe = "block_sparse_moe.";
  out.names.expert_gate = "w1.weight";
  out.names.expert_up = "w3.weight";
  out.names.expert_down = "w2.weight";
  refuse_uncomputed_keys(reader, out);
  PLEIAD_TRY(reader.result());
  return out;
}

}  // namespace pleiad::model
