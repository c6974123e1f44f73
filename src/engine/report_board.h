#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "engine/node_report.h"

namespace pleiad::engine {

// On node 0: what each node told of itself last, in one life of the group. Any thread.
class ReportBoard {
 public:
  explicit ReportBoard(std::int32_t nodes)
      : counts_(static_cast<std::size_t>(nodes)), metrics_(counts_.size()) {}

  // REQUIRES: node < nodes.
  void post(std::int32_t node, NodeReport report);
  // [nodes]; nothing for a node that has not reported.
  [[nodiscard]] std::vector<std::optional<NodeCounts>> counts() const;
  // [nodes]; empty for a node that has not reported.
  [[nodiscard]] std::vector<Exposition> metrics() const;

 private:
  mutable std::mutex mutex_;  // guards below
  std::vector<std::optional<NodeCounts>> counts_;
  std::vector<Exposition> metrics_;
};

}  // namespace pleiad::engine
