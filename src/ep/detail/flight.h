#pragma once

#include <cstdint>
#include <vector>

#include "device/arena_plan.h"
#include "ep/detail/exchange_sizes.h"
#include "ep/expert_exchange.h"

namespace pleiad::ep {

// One batch between begin() and finish(): what was sent where, and what is to come back.
struct ExpertExchange::Flight {
  // What a lane to and from one peer holds.
  struct Lane {
    std::int64_t rows = 0;       // of this batch, to the peer
    std::int64_t rounds_in = 0;  // messages that the peer sends
    std::int64_t expected = 0;   // result lines that the peer owes for the round under way
    std::int64_t next_line = 0;  // where the next ones go
    std::int64_t results = 0;    // lines written so far of what this rank owes the peer
  };

  Flight(const Sizes& sizes, device::ArenaPlan& plan, int first, int last);

  ExchangeStep step;
  std::vector<Lane> lanes;  // [ranks]
  std::uint64_t sends = 0;  // mark up to which the buffers are in use
  int batch = 0;
  bool prepared = false;  // planned, and not begun yet

  device::RegionId routes;        // Route [rows_max, topk]
  device::RegionId nodes;         // Node [rows_max, topk]
  device::RegionId node_starts;   // int32 [rows_max + 1]
  device::RegionId node_lines;    // int32 [rows_max, topk]
  device::RegionId node_ids;      // int32 [rows_max, topk]
  device::RegionId node_weights;  // float [rows_max, topk], for shards
  device::RegionId lane_rows;     // int32 [ranks, rows_max]
  device::RegionId send;          // [ranks, message]
  device::RegionId receive;       // [ranks, message]
  device::RegionId results_out;   // [ranks, results]
  device::RegionId results_in;    // [ranks, results]
  device::RegionId lines;         // float [rows_max * topk * moe_tp, hidden]
  device::RegionId shared;        // float [rows_max, hidden]
};

}  // namespace pleiad::ep
