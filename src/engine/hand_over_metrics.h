#pragma once

#include <cstdint>
#include <string>

#include "base/metrics.h"

namespace pleiad::engine {

// What hand-overs of keys and values count, on either side. Any thread.
struct HandOverMetrics {
  // `rank` is the label "engine".
  HandOverMetrics(MetricsRegistry& registry, const std::string& model_name, std::int32_t rank);

  Gauge& holds;            // transfers under way, each with pages that wait for it
  Counter& holds_expired;  // of them, given up because the other side was silent
  Counter& failed;         // transfers that did not come to their end, cancelled ones left out
  Counter& bytes;          // of lines sent or received
  Counter& dropped;        // records that came late, twice, or for another transfer
  Histogram& seconds;      // from the question to the last line

 private:
  HandOverMetrics(MetricsRegistry& registry, const MetricLabels& labels);
};

}  // namespace pleiad::engine
