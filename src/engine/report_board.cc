#include "engine/report_board.h"

#include <utility>

namespace pleiad::engine {

void ReportBoard::post(std::int32_t node, NodeReport report) {
  const auto place = static_cast<std::size_t>(node);
  const std::scoped_lock lock(mutex_);
  counts_[place] = std::move(report.counts);
  metrics_[place] = std::move(report.metrics);
}

std::vector<std::optional<NodeCounts>> ReportBoard::counts() const {
  const std::scoped_lock lock(mutex_);
  return counts_;
}

std::vector<Exposition> ReportBoard::metrics() const {
  const std::scoped_lock lock(mutex_);
  return metrics_;
}

}  // namespace pleiad::engine
