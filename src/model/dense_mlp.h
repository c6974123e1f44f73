#pragma once

#include <cstdint>

#include "device/arena_plan.h"
#include "device/scratch.h"
#include "kernels/context.h"
#include "kernels/packed_matrix.h"
#include "model/tensor_exchange.h"

namespace pleiad::model {

// SwiGLU weights: down( silu(gate x) * up x ). What one tensor part holds: its parts of the
// outputs.
struct DenseMlpWeights {
  kernels::PackedMatrix gate_up;  // [2 * part of intermediate, hidden]
  kernels::PackedMatrix down;     // [part of hidden, intermediate]
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
      const TensorPlace& place,
      std::int64_t rows_max,
      device::ArenaPlan& plan,
      int first,
      int last
  );

  // residual += mlp(x), x [rows, hidden] rounded activations. Allocates nothing. Fails when a
  // tensor part does.
  Result<void> run(
      const kernels::Context& context,
      device::Scratch& memory,
      TensorExchange& tensor,
      const DenseMlpWeights& weights,
      const float* x,
      std::int64_t rows,
      float* residual
  ) const;

 private:
  Shape shape_;
  PartRange intermediate_;  // of this part
  PartRange hidden_;
  device::RegionId gate_up_;
  device::RegionId product_;
  device::RegionId delta_;
};

}  // namespace pleiad::model
