#pragma once

#include <cstdint>

#include "device/arena_plan.h"
#include "device/scratch.h"
#include "kernels/context.h"
#include "kernels/packed_matrix.h"

namespace pleiad::model {

// SwiGLU weights: down( silu(gate x) * up x ).
struct DenseMlpWeights {
  kernels::PackedMatrix gate_up;  // [2 * intermediate, hidden]
  kernels::PackedMatrix down;     // [hidden, intermediate]
};

// Runs dense feed-forward layers of one shape, one at a time. One thread at a time.
class DenseMlpRunner {
 public:
  struct Shape {
    std::int64_t hidden = 0;
    std::int64_t intermediate = 0;
  };

  // Reserves scratch for `rows_max` rows, alive from op `first` to op `last` of the caller's step.
  DenseMlpRunner(
      const Shape& shape,
      std::int64_t rows_max,
      device::ArenaPlan& plan,
      int first,
      int last
  );

  // residual += mlp(x), x [rows, hidden] rounded activations. Allocates nothing.
  void run(
      const kernels::Context& context,
      device::Scratch& memory,
      const DenseMlpWeights& weights,
      const float* x,
      std::int64_t rows,
      float* residual
  ) const;

 private:
  Shape shape_;
  device::RegionId gate_up_;
  device::RegionId product_;
  device::RegionId delta_;
};

}  // namespace pleiad::model
