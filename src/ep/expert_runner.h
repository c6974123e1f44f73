#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "device/arena_plan.h"
#include "device/scratch.h"
#include "ep/moe_weights.h"
#include "kernels/context.h"
#include "kernels/gemm.h"

namespace pleiad::ep {

// Rows and the experts they want.
struct ExpertBatch {
  const ExpertShard* weights = nullptr;
  const float* x = nullptr;               // [rows, hidden], rounded activations
  std::span<const std::int32_t> experts;  // [assignments], each present in `weights`
  std::span<const std::int32_t> rows;     // [assignments]: the row of x each one reads
};

// Rows for the shared expert.
struct SharedBatch {
  const MoeWeights* weights = nullptr;
  const float* x = nullptr;  // [rows, hidden]
  std::int64_t rows = 0;
  float* out = nullptr;  // [rows, hidden], as the expert's last product left them
};

// What experts made of a batch; valid until the runner runs again.
struct ExpertOutput {
  const float* lines = nullptr;           // [assignments, hidden]: E(x), not weighted
  std::span<const std::int32_t> line_of;  // [assignments]: each one's line
};

// Runs experts, routed (whole, or one shard of each) and shared, of layers of one shape:
// down(silu(gate x) * up x), or with gpt-oss's activation and biases. All products of a stage go
// over the pool together. Allocates nothing; one thread at a time.
class ExpertRunner {
 public:
  struct Limits {
    std::int64_t assignments_max = 0;
    std::int64_t shared_rows_max = 0;
    std::int32_t moe_tp = 1;
  };
  // Reserves scratch, alive from op `first` to op `last` of the caller's step.
  ExpertRunner(
      const MoeShape& shape,
      const Limits& limits,
      device::ArenaPlan& plan,
      int first,
      int last
  );

  // Routed experts, with the shared expert riding along when `shared` is given.
  ExpertOutput run(
      const kernels::Context& context,
      device::Scratch& memory,
      const ExpertBatch& batch,
      const SharedBatch* shared
  );
  // The shared expert alone. REQUIRES: the shape has one.
  void
  run_shared(const kernels::Context& context, device::Scratch& memory, const SharedBatch& shared);

 private:
  // The scratch regions as arrays.
  struct Arrays;
  [[nodiscard]] Arrays arrays(device::Scratch& memory, std::size_t assignments) const;
  void up(
      const kernels::Context& context,
      const ExpertBatch& batch,
      const Arrays& arrays,
      const SharedBatch* shared
  );
  void activate(const kernels::Context& context, const Arrays& arrays, std::int64_t lines) const;
  void down(
      const kernels::Context& context,
      const ExpertBatch& batch,
      const Arrays& arrays,
      const SharedBatch* shared
  );
  [[nodiscard]] kernels::GemmTask shared_up(const Arrays& arrays, const SharedBatch* shared) const;
  [[nodiscard]] kernels::GemmTask shared_down(const Arrays& arrays, const SharedBatch* shared)
      const;

  MoeShape shape_;
  std::int64_t width_;         // intermediate elements of a shard
  std::int64_t partial_sums_;  // of a shard's last product
  device::RegionId first_;
  device::RegionId rows_;
  device::RegionId line_of_;
  device::RegionId gate_up_;
  device::RegionId product_;
  device::RegionId out_;
  device::RegionId shared_gate_up_;
  device::RegionId shared_product_;
  std::vector<kernels::GemmTask> tasks_;  // [experts + 1]: the shared expert is the last
};

}  // namespace pleiad::ep
