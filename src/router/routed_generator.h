#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "api/generation.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/metrics.h"
#include "base/result.h"
#include "net/event_loop.h"
#include "net/http_client.h"
#include "router/policy.h"
#include "router/routed_request.h"
#include "router/worker_table.h"
#include "router/worker_watch.h"

namespace pleiad::router {

struct RouterOptions {
  std::string secret;  // the cluster's
  PolicyOptions policy;
  WorkerTable::Options table;
  std::uint64_t seed = 0;       // of draws
  std::size_t open_max = 4096;  // requests under way or waiting; beyond: Exhausted
  // Workers that may be lost under one request; it ends with an error at the last: it may be what
  // kills them.
  int deaths_max = 2;
  Nanoseconds wait_max = std::chrono::seconds(30);  // for a unit, once accepted
  Nanoseconds report_interval = std::chrono::milliseconds(200);
  Nanoseconds report_timeout = std::chrono::seconds(1);
  Nanoseconds connect_timeout = std::chrono::seconds(2);
  Nanoseconds silence_max = std::chrono::minutes(10);  // of a worker that computes
};

// The workers of a service as one Generator: each request goes to the unit that the policy chooses,
// and its tokens come back over a connection of its own (server/peer_api.h). When a worker is lost
// the request goes on elsewhere from the token after its last one, so that its client sees a pause
// and no other token (GenerationRequest::resumed_tokens).
//
// Members of api::Generator on any thread, all others on the loop's; so are the calls of sinks.
class RoutedGenerator final : public api::Generator {
 public:
  // All must outlive the generator.
  RoutedGenerator(net::EventLoop& loop, MetricsRegistry& metrics, RouterOptions options);
  RoutedGenerator(const RoutedGenerator&) = delete;
  RoutedGenerator& operator=(const RoutedGenerator&) = delete;
  // REQUIRES: the loop does not run. Open requests end with Cancelled.
  ~RoutedGenerator() override;

  // Fails with InvalidInput: no URL, or a worker that is here already.
  Result<void> add_worker(const std::string& url);
  // Fail with NotFound.
  Result<void> drain_worker(std::string_view url, bool draining);
  // What runs there goes on elsewhere.
  Result<void> remove_worker(std::string_view url);
  // Every worker with its state, load and why.
  [[nodiscard]] Json workers_json() const;
  [[nodiscard]] const WorkerTable& table() const { return table_; }

  Result<api::RequestId> submit(api::GenerationRequest request, api::GenerationSink& sink) override;
  void cancel(api::RequestId request) override;
  void finish_early(api::RequestId request) override;
  [[nodiscard]] api::GeneratorStatus status() const override;
  [[nodiscard]] api::GeneratorLimits limits() const override;
  void reset_prefix_cache() override {}
  // Refuses new requests from now on; those accepted go on. Any thread.
  void stop_accepting() { accepting_.store(false); }

 private:
  struct Metrics {
    Counter& requests;
    Counter& replays;
    Counter& failed;  // requests that ended with an error
    Counter& prompt_tokens;
    Counter& cached_tokens;  // of these, expected in the chosen unit's cache
    Gauge& open;
    Gauge& ready;  // workers
  };
  static Metrics make_metrics(MetricsRegistry& registry);
  void dispatch(RoutedRequest& request);
  void send(RoutedRequest& request);
  void on_body(api::RequestId id, std::string_view bytes);
  void on_end(api::RequestId id, const Result<void>& ended);
  void judge(RoutedRequest& request);
  void refused(RoutedRequest& request);
  void worker_lost(RoutedRequest& request, const std::string& why);
  void try_again(RoutedRequest& request);
  void end_attempt(RoutedRequest& request);
  void finish(RoutedRequest& request, api::FinishReason reason, std::string message = {});
  void finish(RoutedRequest& request, const api::FinishEvent& event);
  void tell_worker_to_finish(const RoutedRequest& request);
  void on_report(WorkerIndex worker, Result<api::WorkerReport> report);
  void move_away_from(WorkerIndex worker, const std::string& why);
  void serve_waiting();
  void publish();
  RoutedRequest* find(api::RequestId id);

  net::EventLoop& loop_;
  const RouterOptions options_;
  const SystemClock clock_;
  Metrics metrics_;
  WorkerTable table_;
  Policy policy_;
  net::HttpClient client_;
  WorkerWatch watch_;
  std::unordered_map<api::RequestId, std::unique_ptr<RoutedRequest>> requests_;
  std::deque<api::RequestId> waiting_;  // without a unit
  std::vector<std::uint32_t> overlap_;  // [units], of the prompt being placed
  std::vector<std::uint8_t> eligible_;  // [units], for it

  std::atomic<std::uint64_t> next_id_{1};
  std::atomic<std::size_t> open_{0};
  std::atomic<bool> accepting_{true};
  mutable std::mutex mutex_;  // guards what publish() left here
  api::GeneratorStatus status_;
  api::GeneratorLimits limits_;
  std::string not_ready_ = "no worker has reported yet";  // why nothing is taken; empty: it is
};

}  // namespace pleiad::router
