#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "base/result.h"
#include "plan/ep_settings.h"
#include "plan/model_facts.h"
#include "plan/parallel_layout.h"
#include "plan/routing_expectation.h"

namespace pleiad::plan {

// What a machine was measured to do.
struct MachineConstants {
  double memory_bytes_per_second = 0;  // reading weights, by one rank
  double flops_per_second = 0;         // of one core, at the model's compute type
  std::int32_t cores_per_rank = 1;     // 1 for a GPU, whose flops are then the device's
  double step_seconds = 0;             // of a rank's step beside weights and products
  double row_seconds = 0;              // of a row of a step: attention, norms, sampling, delivery
  double message_seconds = 0;          // of work for one message between two ranks
  double link_latency_seconds = 0;     // until a rank that waits for messages goes on
  double link_bytes_per_second = 0;    // of one rank's link, each way
};

// Predicted time and traffic of one step over all its layers. Parts follow one another: nothing is
// overlapped.
struct StepCost {
  double fixed_seconds = 0;  // of steps and rows as such
  double dense_seconds = 0;
  double expert_seconds = 0;
  double agree_seconds = 0;   // on the step, before it
  double tensor_seconds = 0;  // of exchange within tp groups
  double dispatch_seconds = 0;
  double return_seconds = 0;
  double wire_bytes = 0;           // sent between ranks, all together
  double rank_wire_bytes_max = 0;  // sent by the rank that sends most

  [[nodiscard]] double exchange_seconds() const { return dispatch_seconds + return_seconds; }
  [[nodiscard]] double seconds() const {
    return fixed_seconds + dense_seconds + expert_seconds + agree_seconds + tensor_seconds +
           exchange_seconds();
  }
};

struct LevelChoice {
  EpLevel level = EpLevel::AllGather;  // never Auto
  std::string reason;                  // one line
};

// Predicts steps of uniformly routed tokens over contiguously placed experts. With T tokens in the
// step, W ranks, E experts, k choices, n experts on a rank, m of the tokens its own:
//
//   fixed     step_seconds + m * row_seconds
//   dense     max(dense_step_bytes / memory, m * 2 * dense parameters / flops)
//   experts   per MoE layer, max(n * (1 - (1 - k/E)^T) * expert_bytes / memory,
//                                T * k * n/E * 2 * expert parameters / flops)
//   messages  rounds * (latency + (W - 1) * message_seconds) + max(bytes out, bytes in) / link:
//             messages of several peers travel at once
//   agree     one round of messages without bytes
//   level 1   dispatch: out m * (W - 1) records, in T - m records; as many rounds as the routing
//             cut-off makes of T
//   level 2   dispatch: one more message to each peer, right before, which tells how many rows
//             come; out m records to each rank reached, in (T - m) * the probability that a token
//             reaches the rank; as many rounds as the receive buffer makes of T * that probability
//   return    either level: the rows of results of RoutingExpectation, in as many rounds
//
//   tensor    with tp_size P > 1, whose ranks divide the dense weights and bring 1/P of the rows to
//             the experts each: per layer three rounds of messages between them, of (P - 1)/P of
//             two rows of activations and one of floats for each of the P * m rows
//
// Ranks step in lockstep: each part takes as long as its slowest rank. Immutable.
class CostModel {
 public:
  // Fails with InvalidInput naming the constant that is no positive finite number (all but rates
  // may be 0), or the rule that layout, settings or facts break.
  static Result<CostModel> make(
      const ModelFacts& facts,
      const ParallelLayout& layout,
      const EpSettings& settings,
      const MachineConstants& machine
  );

  // `rows`: of each dp rank, [dp_size], none negative. REQUIRES: level is not Auto.
  [[nodiscard]] StepCost step(EpLevel level, std::span<const std::int64_t> rows) const;
  // The same number of rows on every dp rank.
  [[nodiscard]] StepCost even_step(EpLevel level, std::int64_t rows) const;

  // The level that settings name; for Auto the one whose exchange is predicted to take less time,
  // level 1 when equal. The same on every rank and every host: it rests on sums, products and
  // quotients alone.
  [[nodiscard]] LevelChoice choose_level(std::span<const std::int64_t> rows) const;

  // Rows on every dp rank from which Auto takes level 2, searched from 1 to `rows_max` by doubling
  // and halving; none when it takes level 1 at every size that was looked at. For callers that may
  // not allocate in a step.
  [[nodiscard]] std::optional<std::int64_t> all_to_all_rows_min(std::int64_t rows_max) const;

 private:
  CostModel() = default;

  // Traffic of one rank in one layer.
  struct Exchange {
    double waits = 0;     // for messages of all peers
    double messages = 0;  // to them
    double bytes_out = 0;
    double bytes_in = 0;
  };

  [[nodiscard]] double exchange_seconds(const Exchange& exchange) const;
  [[nodiscard]] double rounds(EpLevel level, std::int64_t tokens) const;
  [[nodiscard]] Exchange
  dispatch(EpLevel level, std::int32_t rank, double own_rows, std::int64_t tokens) const;
  [[nodiscard]] Exchange
  returned(EpLevel level, std::int32_t rank, double own_rows, std::int64_t tokens) const;
  [[nodiscard]] double dense_seconds(double rows) const;
  [[nodiscard]] double tensor_seconds(double rows) const;
  [[nodiscard]] double expert_seconds(std::int64_t tokens) const;

  ModelFacts facts_;
  ParallelLayout layout_;
  EpSettings settings_;
  MachineConstants machine_;
  RoutingExpectation routing_;
};

}  // namespace pleiad::plan
