#include "engine/engine_metrics.h"

#include <array>
#include <string_view>

namespace pleiad::engine {
namespace {

constexpr std::array<double, 22> kFirstTokenBounds = {
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1,  0.25,  0.5,   0.75,
    1.0,   2.5,   5.0,  7.5,  10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0};
constexpr std::array<double, 17> kTokenBounds = {
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.075,
    0.1,
    0.15,
    0.2,
    0.3,
    0.4,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0};
constexpr std::array<double, 21> kRequestBounds = {0.3,  0.5,  0.8,   1.0,   1.5,   2.0,   2.5,
                                                   5.0,  10.0, 15.0,  20.0,  30.0,  40.0,  50.0,
                                                   60.0, 120., 240.0, 480.0, 960.0, 1920., 7680.0};
constexpr std::array<double, 18> kCountBounds =
    {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 1e5, 2e5, 5e5};
constexpr std::array<double, 14> kStepTokenBounds =
    {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192};
constexpr std::array<double, 12> kStepBounds =
    {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5};

}  // namespace

// Declares metrics with the labels every series of one engine carries.
struct EngineMetrics::Declare {
  MetricsRegistry& registry;
  MetricLabels labels;

  Gauge& gauge(std::string_view name, std::string_view help) const {
    return registry.gauge(name, help, labels);
  }
  Counter& counter(std::string_view name, std::string_view help) const {
    return registry.counter(name, help, labels);
  }
  Counter& finished(std::string_view reason) const {
    MetricLabels with_reason = labels;
    with_reason.emplace_back("finished_reason", std::string(reason));
    return registry.counter("vllm:request_success_total", "Requests finished", with_reason);
  }
  Histogram& histogram(std::string_view name, std::string_view help, std::span<const double> bounds)
      const {
    return registry.histogram(name, help, bounds, labels);
  }
};

EngineMetrics::EngineMetrics(
    MetricsRegistry& registry,
    const std::string& model_name,
    std::int32_t rank
)
    : EngineMetrics(
          Declare{registry, {{"model_name", model_name}, {"engine", std::to_string(rank)}}}
      ) {}

EngineMetrics::EngineMetrics(const Declare& metric)
    : requests_running(metric.gauge("vllm:num_requests_running", "Requests in the current steps")),
      requests_waiting(metric.gauge("vllm:num_requests_waiting", "Requests queued behind them")),
      kv_cache_usage(
          metric.gauge("vllm:kv_cache_usage_perc", "Share of KV pages held by requests, 0 to 1")
      ),
      prefix_queried_tokens(metric.counter(
          "vllm:prefix_cache_queries_total",
          "Prompt tokens looked up in the prefix cache"
      )),
      prefix_hit_tokens(
          metric.counter("vllm:prefix_cache_hits_total", "Prompt tokens found in the prefix cache")
      ),
      preemptions(
          metric.counter("vllm:num_preemptions_total", "Sequences that gave their pages back")
      ),
      prompt_tokens(metric.counter("vllm:prompt_tokens_total", "Prompt tokens of finished prefills")
      ),
      generated_tokens(metric.counter("vllm:generation_tokens_total", "Tokens generated")),
      finished_stop(metric.finished("stop")),
      finished_length(metric.finished("length")),
      finished_abort(metric.finished("abort")),
      finished_error(metric.finished("error")),
      time_to_first_token_seconds(metric.histogram(
          "vllm:time_to_first_token_seconds",
          "From submission to the first token",
          kFirstTokenBounds
      )),
      inter_token_latency_seconds(metric.histogram(
          "vllm:inter_token_latency_seconds",
          "Between two tokens of a request",
          kTokenBounds
      )),
      request_latency_seconds(metric.histogram(
          "vllm:e2e_request_latency_seconds",
          "From submission to the end",
          kRequestBounds
      )),
      queue_seconds(metric.histogram(
          "vllm:request_queue_time_seconds",
          "From submission to the first step",
          kRequestBounds
      )),
      prefill_seconds(metric.histogram(
          "vllm:request_prefill_time_seconds",
          "From the first step to the first token",
          kRequestBounds
      )),
      decode_seconds(metric.histogram(
          "vllm:request_decode_time_seconds",
          "From the first token to the last",
          kRequestBounds
      )),
      request_prompt_tokens(
          metric.histogram("vllm:request_prompt_tokens", "Prompt tokens per request", kCountBounds)
      ),
      request_generated_tokens(metric.histogram(
          "vllm:request_generation_tokens",
          "Generated tokens per request",
          kCountBounds
      )),
      request_max_tokens(
          metric.histogram("vllm:request_params_max_tokens", "max_tokens per request", kCountBounds)
      ),
      step_tokens(metric.histogram("vllm:iteration_tokens_total", "Rows per step", kStepTokenBounds)
      ),
      steps(metric.counter("pleiad_steps_total", "Steps the engine has run")),
      step_seconds(metric.histogram("pleiad_step_seconds", "Duration of a step", kStepBounds)),
      pages_held(metric.gauge("pleiad_kv_pages_held", "KV pages held by requests")),
      pages_cached(metric.gauge("pleiad_kv_pages_cached", "KV pages kept for their prefix only")),
      pages_total(metric.gauge("pleiad_kv_pages", "KV pages of the cache")),
      page_evictions(
          metric.counter("pleiad_kv_page_evictions_total", "Cached pages given to new tokens")
      ),
      expert_balance(metric.gauge(
          "pleiad_expert_balancedness",
          "Mean over maximum of this rank's tokens per expert, averaged over layers"
      )),
      expert_balance_least(
          metric.gauge("pleiad_expert_balancedness_min", "The same of the least even layer")
      ),
      ep_dispatch_bytes(
          metric.counter("pleiad_ep_dispatch_bytes_total", "Bytes of rows sent to experts' ranks")
      ),
      ep_combine_bytes(metric.counter("pleiad_ep_combine_bytes_total", "Bytes of results sent back")
      ),
      ep_dispatch_wait_seconds(metric.counter(
          "pleiad_ep_dispatch_wait_seconds_total",
          "Time blocked until peers' rows came"
      )),
      ep_combine_wait_seconds(metric.counter(
          "pleiad_ep_combine_wait_seconds_total",
          "Time blocked until results came back"
      )),
      ep_rows_sent(
          metric.counter("pleiad_ep_rows_sent_total", "Rows sent, once for each rank they went to")
      ),
      ep_assignments(
          metric.counter("pleiad_ep_assignments_total", "Pairs of row and expert computed here")
      ),
      ep_extra_rounds(
          metric.counter("pleiad_ep_extra_rounds_total", "Rounds that full receive buffers added")
      ),
      ep_extra_passes(metric.counter(
          "pleiad_ep_extra_passes_total",
          "Passes over experts that the limit of rows added"
      )) {}

}  // namespace pleiad::engine
