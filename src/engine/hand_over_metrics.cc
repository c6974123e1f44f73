#include "engine/hand_over_metrics.h"

#include <array>

namespace pleiad::engine {
namespace {

constexpr std::array<double, 14> kBounds =
    {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0};

}  // namespace

HandOverMetrics::HandOverMetrics(
    MetricsRegistry& registry,
    const std::string& model_name,
    std::int32_t rank
)
    : HandOverMetrics(
          registry,
          MetricLabels{{"model_name", model_name}, {"engine", std::to_string(rank)}}
      ) {}

HandOverMetrics::HandOverMetrics(MetricsRegistry& registry, const MetricLabels& labels)
    : holds(registry.gauge(
          "pleiad_kv_holds",
          "Prompts whose KV pages are held for a hand-over under way",
          labels
      )),
      holds_expired(registry.counter(
          "pleiad_kv_hold_expired_total",
          "Holds given up because the other worker was silent for too long",
          labels
      )),
      failed(registry.counter(
          "pleiad_kv_transfer_failed_total",
          "Hand-overs that failed; cancelled ones left out",
          labels
      )),
      bytes(registry.counter(
          "pleiad_kv_transfer_bytes_total",
          "Bytes of keys and values handed over",
          labels
      )),
      dropped(registry.counter(
          "pleiad_kv_records_dropped_total",
          "Records that came late, twice or for another hand-over",
          labels
      )),
      seconds(registry.histogram(
          "pleiad_kv_transfer_seconds",
          "From asking for a prompt's keys and values to the last of them",
          kBounds,
          labels
      )) {}

}  // namespace pleiad::engine
