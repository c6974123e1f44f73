#pragma once

#include <cstdint>
#include <vector>

#include "kernels/expert_gate.h"
#include "kernels/packed_matrix.h"

namespace pleiad::ep {

// Sizes of one mixture-of-experts layer.
struct MoeShape {
  std::int64_t hidden = 0;
  std::int64_t intermediate = 0;         // of each routed expert
  std::int64_t shared_intermediate = 0;  // of the shared expert; 0: there is none
  // Greatest magnitude that gpt-oss's experts clamp their activations to; 0: SwiGLU experts.
  float activation_limit = 0.0F;
  kernels::GateOptions gate;
  bool quantized = false;  // experts may be stored in fewer bits than 16
};

// One shard of every expert of a layer: with moe_tp ranks to an expert, shard t has the t-th part
// of its intermediate elements. Experts that stand elsewhere have empty matrices.
struct ExpertShard {
  std::vector<kernels::PackedMatrix> gate_up;  // [experts] of [2 * intermediate / moe_tp, hidden]
  std::vector<kernels::PackedMatrix> down;     // [experts] of [hidden, intermediate / moe_tp]
  // [experts] of [2 * intermediate / moe_tp], or empty.
  std::vector<std::vector<float>> gate_up_bias;
  // [experts] of [hidden], or empty; the first shard's only, since it is added once.
  std::vector<std::vector<float>> down_bias;
};

// The packed weights of one layer that this process holds.
struct MoeWeights {
  kernels::PackedMatrix gate;       // [experts, hidden], Float32 whatever the compute (DESIGN R4)
  std::vector<float> logit_bias;    // [experts] added to the gate's logits, or empty
  std::vector<float> choice_bias;   // [experts] added for the choice only, or empty
  std::vector<ExpertShard> shards;  // [moe_tp]
  kernels::PackedMatrix shared_gate_up;  // [2 * shared_intermediate, hidden]
  kernels::PackedMatrix shared_down;     // [hidden, shared_intermediate]
};

// How many partial sums an expert's last product always has, so that its shards can be computed
// apart with the same bits: 4, or as many as the intermediate size allows, whose parts are whole
// pairs, or whole words of quantised weights. moe_tp must divide it.
inline std::int64_t expert_partial_sums(const MoeShape& shape) {
  const std::int64_t whole = shape.quantized ? 8 : 2;
  if (shape.intermediate % (4 * whole) == 0) return 4;
  return shape.intermediate % (2 * whole) == 0 ? 2 : 1;
}

}  // namespace pleiad::ep
