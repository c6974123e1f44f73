#pragma once

#include <cstdint>
#include <variant>
#include <vector>

#include "ep/moe_weights.h"
#include "kernels/rope.h"
#include "model/gqa_layer.h"
#include "model/mla_layer.h"
#include "model/quantization_config.h"
#include "model/tensor_names.h"

namespace pleiad::model {

// Rotary embedding as every layer applies it.
struct RopeConfig {
  std::int64_t width = 0;  // elements of a head that turn
  double theta = 10000;
  kernels::RopeScaling scaling;
  kernels::RopePairs pairs = kernels::RopePairs::Halves;
  double magnitude = 1.0;        // factor on cosines and sines
  double score_magnitude = 1.0;  // factor on attention scores (DeepSeek's mscale_all_dim)
};

// One block: attention, then a dense MLP or routed experts.
struct DecoderLayer {
  bool moe = false;
  std::int64_t window = 0;  // tokens that attention sees, the newest included; 0: all
};

// What a decoder-only transformer computes, as far as its config.json says it: embedding, blocks of
// h += attention(norm(h)), h += mlp(norm(h)), norm, head. Each family's file (families.h) fills it.
struct DecoderConfig {
  std::int64_t vocabulary = 0;
  std::int64_t hidden = 0;
  std::int64_t positions_max = 0;
  float rms_epsilon = 1e-6F;
  bool tied_embeddings = false;
  std::vector<DecoderLayer> layers;
  std::int64_t intermediate = 0;  // of dense layers
  RopeConfig rope;
  std::variant<MlaShape, GqaShape> attention;
  ep::MoeShape moe;  // of the layers with experts
  TensorNames names;
  QuantizationConfig quantization;

  [[nodiscard]] std::int64_t moe_layers() const;
};

}  // namespace pleiad::model
