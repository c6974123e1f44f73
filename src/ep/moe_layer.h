#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "device/arena_plan.h"
#include "device/scratch.h"
#include "kernels/context.h"
#include "kernels/expert_gate.h"
#include "kernels/gemm.h"
#include "kernels/packed_matrix.h"

namespace pleiad::ep {

// Sizes of one mixture-of-experts layer.
struct MoeShape {
  std::int64_t hidden = 0;
  std::int64_t intermediate = 0;         // of each routed expert
  std::int64_t shared_intermediate = 0;  // of the shared expert; 0: there is none
  kernels::GateOptions gate;
};

// The packed weights of one layer; slot s holds expert s.
struct MoeWeights {
  kernels::PackedMatrix gate;    // [experts, hidden], Float32 whatever the compute (DESIGN R4)
  std::vector<float> gate_bias;  // [experts], or empty
  std::vector<kernels::PackedMatrix> gate_up;  // [experts] of [2 * intermediate, hidden]
  std::vector<kernels::PackedMatrix> down;     // [experts] of [hidden, intermediate]
  kernels::PackedMatrix shared_gate_up;        // [2 * shared_intermediate, hidden]
  kernels::PackedMatrix shared_down;           // [hidden, shared_intermediate]
};

// One layer's input and output.
struct MoeStep {
  const MoeWeights* weights = nullptr;
  const float* x = nullptr;   // [rows, hidden], rounded activations
  std::int64_t rows = 0;      // at most rows_max
  float* residual = nullptr;  // [rows, hidden]: the layer's output is added here
  std::span<std::uint64_t>
      expert_tokens;  // [experts]: tokens each expert received are added; may be empty
};

// Runs the layers of one shape, one at a time: residual += sum over chosen experts of w_i * E_i(x)
// + shared(x), as gate -> group -> experts -> combine along DESIGN R3's tree. Rows do not influence
// each other's bits. One thread at a time.
class MoeRunner {
 public:
  // Reserves scratch for `rows_max` rows, alive from op `first` to op `last` of the caller's step.
  MoeRunner(
      const MoeShape& shape,
      std::int64_t rows_max,
      device::ArenaPlan& plan,
      int first,
      int last
  );

  // `memory` is of the plan given at construction. Allocates nothing.
  void run(const kernels::Context& context, device::Scratch& memory, const MoeStep& step);

 private:
  // The scratch regions as arrays, and the step's groups.
  struct Arrays;

  [[nodiscard]] Arrays arrays(device::Scratch& memory, std::int64_t rows) const;
  void route(const kernels::Context& context, const MoeStep& step, const Arrays& arrays) const;
  void project_up(const kernels::Context& context, const MoeStep& step, const Arrays& arrays);
  void project_down(const kernels::Context& context, const MoeStep& step, const Arrays& arrays);

  MoeShape shape_;
  device::RegionId logits_;
  device::RegionId ids_;
  device::RegionId weights_;
  device::RegionId first_;
  device::RegionId rows_;
  device::RegionId line_of_;
  device::RegionId gate_up_;
  device::RegionId product_;
  device::RegionId out_;
  device::RegionId shared_gate_up_;
  device::RegionId shared_product_;
  device::RegionId shared_out_;
  std::vector<kernels::GemmTask>
      tasks_;  // [experts + 1]: the shared expert rides along as the last
};

}  // namespace pleiad::ep
