#pragma once

#include <cstdint>
#include <string>

#include "base/metrics.h"

namespace pleiad::engine {

// Every metric the engine keeps, under vLLM's names (what gateways and dashboards already scrape)
// and, for facts vLLM has no name for, our own. Values are updated by the engine's thread.
struct EngineMetrics {
  // `rank` is the label "engine".
  EngineMetrics(MetricsRegistry& registry, const std::string& model_name, std::int32_t rank);

  Gauge& requests_running;
  Gauge& requests_waiting;
  Gauge& kv_cache_usage;  // share of pages held by requests, 0..1
  Counter& prefix_queried_tokens;
  Counter& prefix_hit_tokens;
  Counter& preemptions;
  Counter& prompt_tokens;
  Counter& generated_tokens;
  Counter& finished_stop;
  Counter& finished_length;
  Counter& finished_abort;
  Counter& finished_error;
  Histogram& time_to_first_token_seconds;
  Histogram& inter_token_latency_seconds;
  Histogram& request_latency_seconds;
  Histogram& queue_seconds;
  Histogram& prefill_seconds;
  Histogram& decode_seconds;
  Histogram& request_prompt_tokens;
  Histogram& request_generated_tokens;
  Histogram& request_max_tokens;
  Histogram& step_tokens;

  Counter& steps;
  Histogram& step_seconds;
  Gauge& pages_held;
  Gauge& pages_cached;
  Gauge& pages_total;
  Counter& page_evictions;
  // Mean / max of the rank's own tokens per expert, averaged over MoE layers; 1 is even.
  Gauge& expert_balance;
  Gauge& expert_balance_least;  // of the least even layer

  // What expert parallelism costs (ep::EpStats).
  Counter& ep_dispatch_bytes;
  Counter& ep_combine_bytes;
  Counter& ep_dispatch_wait_seconds;
  Counter& ep_combine_wait_seconds;
  Counter& ep_rows_sent;
  Counter& ep_assignments;
  Counter& ep_extra_rounds;
  Counter& ep_extra_passes;

 private:
  struct Declare;
  explicit EngineMetrics(const Declare& metric);
};

}  // namespace pleiad::engine
