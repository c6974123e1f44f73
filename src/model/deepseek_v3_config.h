#pragma once

#include <cstdint>

#include "base/json.h"
#include "base/result.h"
#include "kernels/expert_gate.h"
#include "kernels/rope.h"

namespace pleiad::model {

// The numbers of a DeepSeek-V3 config.json, in either of Hugging Face's spellings (rope_scaling
// beside rope_theta, or rope_parameters).
struct DeepseekV3Config {
  std::int64_t vocabulary = 0;
  std::int64_t hidden = 0;
  std::int64_t layers = 0;
  std::int64_t dense_layers = 0;  // the first ones
  std::int64_t moe_layer_freq = 1;
  std::int64_t intermediate = 0;      // of dense layers
  std::int64_t moe_intermediate = 0;  // of one expert
  std::int64_t shared_experts = 0;
  std::int64_t heads = 0;
  std::int64_t q_lora = 0;  // 0: queries come straight from the hidden state
  std::int64_t kv_lora = 0;
  std::int64_t nope = 0;   // query/key elements without position
  std::int64_t rope = 0;   // query/key elements with position
  std::int64_t value = 0;  // value elements per head
  std::int64_t positions_max = 0;
  float rms_epsilon = 1e-6F;
  bool tied_embeddings = false;
  double rope_theta = 10000;
  kernels::RopeScaling rope_scaling;
  kernels::RopePairs rope_pairs = kernels::RopePairs::Interleaved;
  double rope_magnitude = 1.0;  // factor on cosines and sines
  float attention_scale = 1.0F;
  kernels::GateOptions gate;

  [[nodiscard]] bool is_moe(std::int64_t layer) const {
    return layer >= dense_layers && layer % moe_layer_freq == 0;
  }
};

// Fails naming the first key that is missing, out of range, or changes the maths in a way that is
// not computed here.
Result<DeepseekV3Config> parse_deepseek_v3_config(const Json& config);

}  // namespace pleiad::model
