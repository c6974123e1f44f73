#pragma once

#include <atomic>
#include <cstdint>
#include <span>

#include "comm/group.h"
#include "plan/ep_settings.h"

namespace pleiad::ep {

// What one rank did for its group since start. Written by the rank's thread, read by any.
struct EpStats {
  std::atomic<std::uint64_t> dispatch_bytes{0};  // sent to peers
  std::atomic<std::uint64_t> combine_bytes{0};
  std::atomic<std::uint64_t> dispatch_wait_ns{0};  // blocked until peers' rows came
  std::atomic<std::uint64_t> combine_wait_ns{0};   // blocked until results came back
  std::atomic<std::uint64_t> rows_sent{0};         // (row, rank) pairs
  std::atomic<std::uint64_t> assignments{0};       // (row, expert) pairs computed here
  std::atomic<std::uint64_t> extra_rounds{0};      // messages a full buffer held back
  std::atomic<std::uint64_t> extra_passes{0};      // passes over experts that the row limit added
};

// What the ranks of a group have agreed on for one step. All ranks run the step's layers together,
// those without rows too: they lend their experts.
struct GroupStep {
  comm::Group* group = nullptr;
  std::span<const std::int32_t> rows;             // [ranks]: rows that each rank brings
  plan::EpLevel level = plan::EpLevel::AllToAll;  // AllGather or AllToAll
  bool two_batches = false;  // each rank's rows in two halves that take turns on the wire
};

// Rows that a rank with `rows` rows has in half `batch` of a step.
inline std::int64_t rows_of_batch(const GroupStep& step, std::int64_t rows, int batch) {
  if (!step.two_batches) return batch == 0 ? rows : 0;
  return batch == 0 ? (rows + 1) / 2 : rows / 2;
}

}  // namespace pleiad::ep
