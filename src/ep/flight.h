#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "device/arena_plan.h"
#include "device/scratch.h"
#include "ep/expert_exchange.h"

namespace pleiad::ep {

// Names of the two ways, for errors.
inline constexpr std::string_view kDispatch = "dispatch";
inline constexpr std::string_view kCombine = "combine";

template <typename T>
[[nodiscard]] T* slice(std::span<T> all, std::size_t index, std::size_t size) {
  return all.data() + index * size;
}

inline std::int64_t divide_up(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

inline bool wants(std::span<const Route> routes, std::int32_t holder) {
  return std::ranges::any_of(routes, [&](const Route& route) { return route.holder == holder; });
}

// Adds what this thread waited for peers since construction to `total_ns`.
class WaitTimer {
 public:
  WaitTimer(const comm::Group& group, std::atomic<std::uint64_t>& total_ns)
      : group_(group), total_ns_(total_ns), before_(group.traffic().wait_seconds) {}
  ~WaitTimer() {
    const double seconds = group_.traffic().wait_seconds - before_;
    total_ns_.fetch_add(static_cast<std::uint64_t>(seconds * 1e9), std::memory_order_relaxed);
  }
  WaitTimer(const WaitTimer&) = delete;
  WaitTimer& operator=(const WaitTimer&) = delete;

 private:
  const comm::Group& group_;
  std::atomic<std::uint64_t>& total_ns_;
  double before_;
};

inline void count(std::atomic<std::uint64_t>& counter, std::size_t by) {
  counter.fetch_add(by, std::memory_order_relaxed);
}

// Sizes of an exchange, derived once.
struct ExpertExchange::Sizes {
  RankPlace place;
  std::int64_t hidden = 0;
  std::int64_t topk = 0;
  bool has_shared = false;
  std::int64_t rows_max = 0;   // own rows of a batch
  std::int64_t lane_rows = 0;  // rows that one message holds
  std::int64_t work_rows = 0;  // rows that one round brings to this rank
  std::int64_t pass_max = 0;   // assignments computed at once
  RowFormat format;            // of dispatch messages
  device::DType result_dtype = device::DType::F32;
  std::size_t message_bytes = 0;  // of a full dispatch message
  std::size_t results_bytes = 0;  // of the results of one

  [[nodiscard]] std::int32_t ep_rank() const { return place.rank / place.moe_tp; }
  [[nodiscard]] std::int32_t shard() const { return place.rank % place.moe_tp; }
  // The expert-parallel rank that `peer` computes for.
  [[nodiscard]] std::int32_t holder_of(std::int32_t peer) const { return peer / place.moe_tp; }
  [[nodiscard]] bool sharded() const { return place.moe_tp > 1; }
  [[nodiscard]] std::size_t result_row_bytes() const {
    return static_cast<std::size_t>(hidden) * device::size_of(result_dtype);
  }
};

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

inline ExpertExchange::Flight::Flight(
    const Sizes& sizes,
    device::ArenaPlan& plan,
    int first,
    int last
)
    : lanes(static_cast<std::size_t>(sizes.place.ranks)) {
  const auto rows = static_cast<std::size_t>(sizes.rows_max);
  const auto ranks = lanes.size();
  const auto choices = rows * static_cast<std::size_t>(sizes.topk);
  const auto hidden = static_cast<std::size_t>(sizes.hidden) * sizeof(float);
  const auto reserve = [&](std::string_view name, std::size_t bytes) {
    return plan.reserve(name, bytes, first, last);
  };
  routes = reserve("routes", choices * sizeof(Route));
  nodes = reserve("nodes", choices * sizeof(Node));
  node_starts = reserve("node starts", (rows + 1) * sizeof(std::int32_t));
  node_lines = reserve("node lines", choices * sizeof(std::int32_t));
  node_ids = reserve("node ids", choices * sizeof(std::int32_t));
  node_weights = reserve("node weights", choices * sizeof(float));
  lane_rows = reserve("rows of lanes", ranks * rows * sizeof(std::int32_t));
  send = reserve("dispatch out", ranks * sizes.message_bytes);
  receive = reserve("dispatch in", ranks * sizes.message_bytes);
  results_out = reserve("results out", ranks * sizes.results_bytes);
  results_in = reserve("results in", ranks * sizes.results_bytes);
  lines = reserve("result lines", choices * static_cast<std::size_t>(sizes.place.moe_tp) * hidden);
  shared = reserve("shared out", sizes.has_shared ? rows * hidden : 0);
}

// The rows that this rank computes in one round: its own first, then each source's together.
struct ExpertExchange::Work {
  // Rows of one source, as a range of the arrays below.
  struct Range {
    std::int64_t begin = 0;
    std::int64_t end = 0;
  };

  float* x = nullptr;        // [work_rows, hidden]
  Route* routes = nullptr;   // [work_rows, topk]
  float* weights = nullptr;  // [work_rows, topk]
  std::int64_t rows = 0;
  std::span<Range> sources;  // [ranks]
};

}  // namespace pleiad::ep
