#pragma once

#include <string_view>

namespace pleiad::model {

// How checkpoints of a family name the tensors that other families name differently. Prefixes are
// those of a layer.
struct TensorNames {
  std::string_view moe = "mlp.";
  std::string_view gate = "gate.weight";  // below `moe`
  std::string_view choice_bias;           // below `moe`; empty: none
  std::string_view logit_bias;            // likewise
  // One expert's parts, below experts.N; or, stacked, those of all experts, below experts.
  std::string_view expert_gate = "gate_proj.weight";
  std::string_view expert_up = "up_proj.weight";
  std::string_view expert_down = "down_proj.weight";
  // All experts of a layer in one tensor, gate and up rows taking turns, with biases.
  bool stacked_experts = false;
};

}  // namespace pleiad::model
