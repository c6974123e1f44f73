#pragma once

#include <cstdint>
#include <string>

namespace pleiad::plan {

// The numbers of a model that planning needs. Whoever reads checkpoints fills them. Bytes are as
// held in memory once loaded, not as stored.
struct ModelFacts {
  std::string name;
  std::int64_t layers = 0;
  std::int64_t moe_layers = 0;        // of them, those with routed experts
  std::int64_t hidden = 0;            // elements of a row
  std::int64_t experts = 0;           // routed, in each MoE layer
  std::int64_t topk = 0;              // experts per token
  std::int64_t expert_groups = 1;     // topk experts come from groups_per_token of so many groups
  std::int64_t groups_per_token = 1;  // at most expert_groups
  std::int64_t vocabulary = 0;
  std::int64_t positions_max = 0;        // longest sequence the model was made for; 0: not told
  std::int64_t attention_heads = 0;      // 0: not told
  std::int64_t kv_heads = 0;             // 0: one latent for all heads
  std::int64_t expert_partial_sums = 1;  // parts that an expert's sum is made of; moe_tp divides it

  std::int64_t expert_bytes = 0;        // of one routed expert in one layer
  std::int64_t dense_bytes = 0;         // everything else
  std::int64_t dense_step_bytes = 0;    // of them, those a step reads (not the table of embeddings)
  std::int64_t shared_out_bytes = 0;    // of these, those that the ranks of a tp group divide
  double bytes_per_parameter = 2.0;     // of weights
  std::int64_t kv_bytes_per_token = 0;  // over all layers and heads
  std::int64_t activation_bytes = 2;    // of one element: 2 for bfloat16, 4 for float32
  std::int64_t scratch_bytes = 0;       // of one rank's largest step, without expert exchange
};

// Bytes that each of tp_size ranks leaves to the others of what one alone would hold (and read).
inline std::int64_t bytes_left_to_others(const ModelFacts& facts, std::int32_t tp_size) {
  return facts.shared_out_bytes - (facts.shared_out_bytes + tp_size - 1) / tp_size;
}

// Of a token's keys and values, the bytes on each of tp_size ranks: those of its heads, at least
// one. A latent belongs to all heads.
inline std::int64_t kv_bytes_on_rank(const ModelFacts& facts, std::int32_t tp_size) {
  if (facts.kv_heads == 0) return facts.kv_bytes_per_token;
  const std::int64_t heads = facts.kv_heads > tp_size ? facts.kv_heads / tp_size : 1;
  return facts.kv_bytes_per_token / facts.kv_heads * heads;
}

// Bytes of what travels to an expert's rank for one row: ids, weights, the row.
inline std::int64_t dispatch_record_bytes(const ModelFacts& facts) {
  return facts.topk * (4 + 4) + facts.hidden * facts.activation_bytes;
}

// Bytes of one row of results on its way back.
inline std::int64_t return_row_bytes(const ModelFacts& facts) {
  return facts.hidden * facts.activation_bytes;
}

}  // namespace pleiad::plan
