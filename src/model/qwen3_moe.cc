#include <algorithm>

#include "model/config_parts.h"
#include "model/families.h"
#include "model/uncomputed_keys.h"

namespace pleiad::model {
namespace {

// Experts in every decoder_sparse_step-th layer, but for those of mlp_only_layers.
void read_layers(ConfigReader& reader, DecoderConfig& out) {
  const std::int64_t count = read_layer_count(reader);
  const std::int64_t step = reader.integer_or("decoder_sparse_step", 1, 1);
  const std::vector<std::int64_t> dense = reader.integers("mlp_only_layers");
  const bool windowed = reader.boolean_or("use_sliding_window", false);
  const std::int64_t listed_window = reader.integer_or("sliding_window", 0, 0);
  const std::int64_t window = windowed ? listed_window : 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const bool listed = std::ranges::find(dense, i) != dense.end();
    out.layers.push_back(
        {.moe = !listed && out.moe.gate.experts > 0 && (i + 1) % step == 0, .window = window}
    );
  }
}

}  // namespace

Result<DecoderConfig> parse_qwen3_moe(const Json& config) {
  ConfigReader reader(config);
  DecoderConfig out;
  read_sizes(reader, out);
  GqaShape attention = read_gqa(reader, out);
  attention.qk_norm = reader.boolean_or("use_qk_norm", true);
  if (!attention.qk_norm) reader.refuse("use_qk_norm", "false", "true");
  attention.qkv_bias = reader.boolean_or("attention_bias", false);
  attention.out_bias = attention.qkv_bias;
  out.attention = attention;
  read_rope(reader, attention.rope, 10000.0, out);
  out.intermediate = reader.integer("intermediate_size", 1);
  out.moe.intermediate = reader.integer("moe_intermediate_size", 1);
  kernels::GateOptions& gate = out.moe.gate;
  const bool newer = !reader.has("num_experts") && reader.has("num_local_experts");
  gate.experts = reader.integer(newer ? "num_local_experts" : "num_experts", 0);
  gate.topk = reader.integer("num_experts_per_tok", 1);
  gate.score = kernels::GateScore::Softmax;
  gate.normalize = reader.boolean_or("norm_topk_prob", false);
  read_layers(reader, out);
  if (out.moe_layers() > 0) check_gate(reader, gate);
  refuse_uncomputed_keys(reader, out);
  PLEIAD_TRY(reader.result());
  return out;
}

}  // namespace pleiad::model
