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
  kernels::GateOptions gate;
};

// The packed weights of one layer that this process holds. Experts that stand elsewhere have empty
// matrices.
struct MoeWeights {
  kernels::PackedMatrix gate;    // [experts, hidden], Float32 whatever the compute (DESIGN R4)
  std::vector<float> gate_bias;  // [experts], or empty
  std::vector<kernels::PackedMatrix> gate_up;  // [experts] of [2 * intermediate, hidden]
  std::vector<kernels::PackedMatrix> down;     // [experts] of [hidden, intermediate]
  kernels::PackedMatrix shared_gate_up;        // [2 * shared_intermediate, hidden]
  kernels::PackedMatrix shared_down;           // [hidden, shared_intermediate]
};

}  // namespace pleiad::ep
