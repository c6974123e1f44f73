#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/token.h"
#include "device/arena_plan.h"
#include "device/scratch.h"
#include "ep/expert_exchange.h"
#include "ep/expert_runner.h"
#include "ep/group_step.h"
#include "ep/moe_weights.h"
#include "kernels/context.h"
#include "plan/expert_placement.h"

namespace pleiad::ep {

// One layer's input and output.
struct MoeStep {
  const MoeWeights* weights = nullptr;
  std::int64_t layer = 0;           // among the model's MoE layers
  const float* x = nullptr;         // [rows, hidden], rounded activations
  std::int64_t rows = 0;            // at most rows_max
  float* residual = nullptr;        // [rows, hidden]: the layer's output is added here
  std::span<const TokenId> tokens;  // [rows], for hash routing; may be empty under gate routing
  std::span<std::uint64_t>
      expert_tokens;  // [experts]: own rows that chose each expert are added; may be empty
};

// Where a rank stands, and where the experts of each MoE layer do. One rank alone holds every
// expert and needs no placements.
struct MoePlace {
  RankPlace rank;
  std::span<const plan::ExpertPlacement> placements;  // [layers], outlive the runner
};

// What a runner makes room for, and the arithmetic of its layers.
struct MoeLimits {
  std::int64_t rows_max = 0;  // own rows of a call
  kernels::Compute compute = kernels::Compute::Float32;
};

// Runs the layers of one shape: residual += sum over chosen experts of w_i * E_i(x) + shared(x), as
// gate -> dispatch -> experts -> combine along DESIGN R3's tree. Rows do not influence each other's
// bits, and neither does where experts stand. One thread at a time. Allocates nothing.
class MoeRunner {
 public:
  // Reserves scratch, alive from op `first` to op `last` of the caller's step.
  MoeRunner(
      const MoeShape& shape,
      const MoePlace& place,
      const MoeLimits& limits,
      device::ArenaPlan& plan,
      int first,
      int last
  );

  // A layer on this rank alone. `memory` is of the plan given at construction.
  void run(const kernels::Context& context, device::Scratch& memory, const MoeStep& step);

  // Under hash routing, chooses experts and plans the exchange before x is known; under gate
  // routing does nothing. `step` is that of the begin() to come.
  void prepare(
      const kernels::Context& context,
      device::Scratch& memory,
      const GroupStep& group,
      int batch,
      const MoeStep& step
  );
  // A layer over the ranks of `group`, in three calls that every rank makes in the same order; up
  // to two batches take turns when the settings say two_batch_overlap. Fail when a peer does: the
  // error names it, the layer, and what was under way.
  Result<void> begin(
      const kernels::Context& context,
      device::Scratch& memory,
      const GroupStep& group,
      int batch,
      const MoeStep& step
  );
  Result<void> serve(const kernels::Context& context, device::Scratch& memory, int batch);
  Result<void> finish(const kernels::Context& context, device::Scratch& memory, int batch);

 private:
  // What the gate chose for a batch's rows.
  struct Choice {
    device::RegionId ids;      // int32 [rows_max, topk]
    device::RegionId weights;  // float [rows_max, topk]
    std::int64_t layer = 0;
    bool made = false;  // by prepare()
  };

  void route(
      const kernels::Context& context,
      device::Scratch& memory,
      const MoeStep& step,
      const Choice& choice
  ) const;

  [[nodiscard]] ExchangeStep exchange_step(
      device::Scratch& memory,
      const GroupStep& group,
      const MoeStep& step,
      const Choice& choice
  ) const;

  MoeShape shape_;
  MoePlace place_;
  std::int64_t rows_max_;
  device::RegionId logits_;                   // float [rows_max, experts]
  std::array<Choice, 2> choices_;             // of each batch
  device::RegionId assignment_rows_;          // int32 [rows_max * topk], alone
  device::RegionId shared_out_;               // float [rows_max, hidden], alone
  std::unique_ptr<ExpertRunner> experts_;     // alone
  std::unique_ptr<ExpertExchange> exchange_;  // in a group
};

}  // namespace pleiad::ep
