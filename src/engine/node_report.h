#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "api/generation.h"
#include "base/exposition.h"
#include "base/result.h"
#include "engine/engine.h"
#include "plan/parallel_layout.h"

namespace pleiad::engine {

// What expert parallelism has cost a rank so far: its ep::EpStats at one moment.
struct EpTotals {
  std::uint64_t dispatch_bytes = 0;
  std::uint64_t combine_bytes = 0;
  std::uint64_t dispatch_wait_ns = 0;
  std::uint64_t combine_wait_ns = 0;
  std::uint64_t rows_sent = 0;
  std::uint64_t assignments = 0;
  std::uint64_t extra_rounds = 0;
  std::uint64_t extra_passes = 0;

  friend bool operator==(const EpTotals&, const EpTotals&) = default;
};

struct RankCounts {
  api::GeneratorStatus status;
  EpTotals ep;
};

// What the ranks of one node have done.
struct NodeCounts {
  std::vector<RankCounts> ranks;             // [ranks of the node], in rank order
  std::vector<std::uint64_t> expert_tokens;  // [moe_layers, experts], summed over those ranks
};

// Of the ranks of this process, in rank order. Any thread, while they are not destroyed.
NodeCounts counts_of(std::span<const std::unique_ptr<Engine>> engines);

// What a node tells node 0 of itself once in a while (RankMessage::Report).
struct NodeReport {
  NodeCounts counts;
  Exposition metrics;  // of its ranks alone: every series carries its rank as the label "engine"
};

// What a report of a node must agree with.
struct ReportShape {
  plan::RankRange ranks;          // of the node
  std::size_t expert_tokens = 0;  // moe_layers * experts
};

inline constexpr std::size_t kReportTextMax = std::size_t{32} << 20U;   // bytes of metrics
inline constexpr std::size_t kReportTokensMax = std::size_t{2} << 20U;  // moe_layers * experts

// Metrics of more than kReportTextMax are left out. REQUIRES: expert_tokens within its limit.
std::vector<std::byte> encode(const NodeReport& report);
// Believes nothing. Fails with Corrupt when the report is not of `shape`, or its metrics are not of
// these ranks or not what Prometheus can read.
Result<NodeReport> decode_report(std::span<const std::byte> bytes, const ReportShape& shape);

}  // namespace pleiad::engine
