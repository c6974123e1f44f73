#pragma once

#include <cstdint>

#include "plan/cost_model.h"

namespace pleiad::bench {

// What ranks that are threads of this process cost and share, measured in the same program as the
// steps that are predicted from it.
struct RankConstants {
  double cores = 1;
  double read_bandwidth = 0;       // of all cores, as a loop or (better) a model reads
  double core_read_bandwidth = 0;  // of one
  double core_flops = 0;           // on products like the experts'
  double message_seconds = 0;      // of one core, for a message sent or received without a wait
  double latency_seconds = 0;      // until a thread that waits for a message goes on
  double link_bandwidth = 0;       // between two threads
  // Of one core; to be found from steps of the model itself.
  double step_seconds = 0;
  double row_seconds = 0;

  // One rank that has one core.
  [[nodiscard]] plan::MachineConstants on_one_core() const;
  // Each of so many ranks that share the cores and the memory behind them; all work divides evenly.
  // A rank that waits leaves its core to others.
  [[nodiscard]] plan::MachineConstants of_ranks(std::int32_t ranks) const;
};

// All but step_seconds and row_seconds.
RankConstants measure_rank_constants();

}  // namespace pleiad::bench
