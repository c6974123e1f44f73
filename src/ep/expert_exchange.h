#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "device/arena_plan.h"
#include "device/scratch.h"
#include "ep/expert_runner.h"
#include "ep/group_step.h"
#include "ep/moe_weights.h"
#include "ep/row_message.h"
#include "kernels/context.h"
#include "plan/ep_settings.h"
#include "plan/expert_placement.h"

namespace pleiad::ep {

// This rank's place in its group, fixed when the model is loaded.
struct RankPlace {
  std::int32_t ranks = 1;
  std::int32_t rank = 0;
  std::int32_t moe_tp = 1;  // ranks that share an expert: rank = ep_rank * moe_tp + shard
  plan::EpSettings settings;
  std::int64_t nodes_per_row_max = 1;  // of every layer's placement (route.h)
  EpStats* stats = nullptr;            // outlives everything
};

// One layer's rows after the gate.
struct ExchangeStep {
  const MoeWeights* weights = nullptr;
  const plan::ExpertPlacement* placement = nullptr;
  const GroupStep* group = nullptr;
  const float* x = nullptr;             // [rows, hidden], rounded activations
  std::int64_t rows = 0;                // own rows of this batch; may be 0
  const std::int32_t* ids = nullptr;    // [rows, topk], ascending within a row
  const float* gate_weights = nullptr;  // [rows, topk]
  float* residual = nullptr;            // [rows, hidden]
};

// Takes rows to their experts on other ranks and brings the results back: dispatch -> experts ->
// combine, in three calls so that other work can run while bytes travel. Results have the bits that
// one rank alone would compute, for every placement, level and buffer size: experts work row by row
// (DESIGN R1), and what comes back are sums of nodes of R3's tree.
//
// Under AllToAll a row is sent once to each rank that holds one of its experts; under AllGather
// every rank gets all rows in one message that is packed once, and picks. A lane's buffer that is
// too small for its rows costs another round, and more rows than may be held at once another pass;
// both are counted. With moe_tp > 1 the shards' partial products come back in float and are added
// at home.
//
// All ranks call begin, serve, finish for the same batches in the same order; up to two batches may
// be in flight. Allocates nothing. One thread at a time.
class ExpertExchange {
 public:
  struct Limits {
    std::int64_t rows_max = 0;                       // of a rank in one step
    device::DType activations = device::DType::F32;  // on the wire
  };
  ExpertExchange(
      const MoeShape& shape,
      const RankPlace& place,
      const Limits& limits,
      device::ArenaPlan& plan,
      int first,
      int last
  );
  ~ExpertExchange();

  // Plans where the batch's rows go, from ids and weights alone: may come before x is known (what
  // routing by hash is for). `step` and what it points to stay until finish(). begin() does it
  // unless done.
  void prepare(device::Scratch& memory, int batch, const ExchangeStep& step);
  // Sends the batch's rows on their way and runs the shared expert meanwhile. `step` and what it
  // points to stay until finish().
  Result<void> begin(
      const kernels::Context& context,
      device::Scratch& memory,
      int batch,
      const ExchangeStep& step
  );
  // Runs own experts on whatever arrived, and sends results back.
  Result<void> serve(const kernels::Context& context, device::Scratch& memory, int batch);
  // Waits for the results, adds everything to the residual; does what is left of a batch that
  // needed several rounds.
  Result<void> finish(const kernels::Context& context, device::Scratch& memory, int batch);

 private:
  struct Sizes;   // derived from shape, place and limits
  struct Flight;  // one batch on its way
  struct Work;    // rows that this rank computes in one round
  // What every helper needs.
  struct Call {
    const kernels::Context& context;
    device::Scratch& memory;
    Flight& flight;
  };

  // Nodes of a pass.
  struct NodeRange {
    std::int64_t begin = 0;
    std::int64_t end = 0;
  };

  void plan_rows(device::Scratch& memory, Flight& flight) const;
  Result<void> start_round(const Call& call, std::int64_t round);
  void send_rows(const Call& call, std::int32_t peer, std::int64_t round);
  void pack_message(
      const Call& call,
      std::span<const std::int32_t> rows,
      std::int64_t rounds,
      std::span<std::byte> message
  ) const;
  Result<void> serve_round(const Call& call, std::int64_t round);
  void take_own_rows(const Call& call, Work& work) const;
  Result<void> take_peers_rows(const Call& call, std::int64_t round, Work& work);
  Result<void> take_rows_from(const Call& call, std::int32_t peer, Work& work);
  void compute(const Call& call, const Work& work);
  void compute_pass(const Call& call, const Work& work, std::int64_t begin, std::int64_t end);
  void
  sum_nodes(const Call& call, const ExpertOutput& output, std::int32_t source, NodeRange nodes);
  void send_results(const Call& call);
  Result<void> receive_results(const Call& call);
  void combine(const Call& call) const;
  void add_shards(const Call& call, std::size_t nodes) const;
  [[nodiscard]] Work open_work(device::Scratch& memory) const;

  std::unique_ptr<Sizes> sizes_;
  std::vector<std::unique_ptr<Flight>> flights_;  // one or two
  ExpertRunner experts_;
  device::RegionId work_x_;        // float [work_rows, hidden]
  device::RegionId work_routes_;   // Route [work_rows, topk]
  device::RegionId work_weights_;  // float [work_rows, topk]
  device::RegionId work_sources_;  // Work::Range [ranks]
  device::RegionId work_picks_;    // int32 [work_rows + 1]
  device::RegionId pass_experts_;  // int32 [pass_max]
  device::RegionId pass_rows_;     // int32 [pass_max]
  device::RegionId pass_weights_;  // float [pass_max]
  device::RegionId pass_starts_;   // int32 [pass_max + 1]
  device::RegionId node_sums_;     // float [pass_max, hidden]
};

}  // namespace pleiad::ep
