#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "api/generation.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/metrics.h"
#include "base/result.h"
#include "net/event_loop.h"
#include "router/http_worker_link.h"
#include "router/route_explanation.h"
#include "router/router_core.h"
#include "router/worker_roster.h"
#include "router/worker_watch.h"

namespace pleiad::router {

struct RouterOptions {
  std::string secret;  // the cluster's
  RouterCoreOptions core;
  std::size_t open_max = 4096;  // requests under way or waiting; beyond: Exhausted
  Nanoseconds report_interval = std::chrono::milliseconds(200);
  Nanoseconds report_timeout = std::chrono::seconds(1);
  Nanoseconds tick_interval = std::chrono::milliseconds(100);
  Nanoseconds connect_timeout = std::chrono::seconds(2);
  // Of a stream; workers at work say every second that they are alive.
  Nanoseconds silence_max = std::chrono::seconds(5);
};

// The workers of a service as one Generator: each request goes to the unit that the policy chooses,
// and its tokens come back over a connection of its own (server/peer_api.h). When a worker is lost
// the request goes on elsewhere from the token after its last one, so that its client sees a pause
// and no other token (GenerationRequest::resumed_tokens). RouterCore decides all that; this is what
// connects it to threads, connections, timers and metrics.
//
// Members of api::Generator on any thread, all others on the loop's; so are the calls of sinks.
class RoutedGenerator final : public api::Generator, public WorkerPool {
 public:
  // All must outlive the generator.
  RoutedGenerator(net::EventLoop& loop, MetricsRegistry& metrics, const RouterOptions& options);
  RoutedGenerator(const RoutedGenerator&) = delete;
  RoutedGenerator& operator=(const RoutedGenerator&) = delete;
  // REQUIRES: the loop does not run. Open requests end with Cancelled.
  ~RoutedGenerator() override = default;

  // Fails with InvalidInput: no URL, or a worker that is here already.
  Result<void> add_worker(const std::string& url, std::optional<api::Role> wanted) override;
  // Fails with NotFound.
  Result<void> drain_worker(std::string_view url, bool draining);
  Result<void> remove_worker(std::string_view url) override;
  // Other rules for the choices from now on.
  void set_policy(const PolicyOptions& policy, std::int64_t prefill_tokens_min) {
    core_.set_policy(policy, prefill_tokens_min);
  }
  // Where such a request would go (explain_route).
  [[nodiscard]] Json explain(const RouteQuestion& question) const;
  // Every worker with its state, load and why.
  [[nodiscard]] Json workers_json() const;
  [[nodiscard]] const WorkerTable& table() const override { return core_.table(); }

  Result<api::RequestId> submit(api::GenerationRequest request, api::GenerationSink& sink) override;
  void cancel(api::RequestId id) override;
  void finish_early(api::RequestId id) override;
  [[nodiscard]] api::GeneratorStatus status() const override;
  [[nodiscard]] api::GeneratorLimits limits() const override;
  void reset_prefix_cache() override {}
  // Why nothing is taken; empty: it is. Any thread.
  [[nodiscard]] std::string why_not_ready() const;
  // Refuses new requests from now on; those accepted go on. Any thread.
  void stop_accepting() { accepting_.store(false); }

 private:
  struct Metrics {
    Counter& requests;
    Counter& replays;
    Counter& failed;
    Counter& prompt_tokens;
    Counter& cached_tokens;
    Counter& hand_overs;
    Counter& prefill_losses;
    Gauge& open;
    Gauge& ready;
    std::array<Counter*, kChoiceReasons.size()> choices{};  // by reason
  };
  static Metrics make_metrics(MetricsRegistry& registry);
  [[nodiscard]] Result<void> check(const api::GenerationRequest& request) const;
  void tick();
  void count();
  void publish();

  net::EventLoop& loop_;
  const RouterOptions options_;
  const SystemClock clock_;
  Metrics metrics_;
  HttpWorkerLink link_;
  RouterCore core_;
  WorkerWatch watch_;
  net::Timer timer_;
  RouterCounts counted_;  // what the metrics have

  std::atomic<std::uint64_t> next_id_{1};
  std::atomic<std::size_t> open_{0};  // accepted, and not known to have ended
  std::uint64_t ended_ = 0;           // of those
  std::atomic<bool> accepting_{true};
  mutable std::mutex mutex_;  // guards what publish() left here
  RouterSummary summary_{.not_ready = "no worker has reported yet"};
};

}  // namespace pleiad::router
