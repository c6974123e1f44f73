#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/json.h"
#include "base/metrics.h"
#include "base/result.h"
#include "net/event_loop.h"
#include "net/http_message.h"
#include "net/responder.h"
#include "router/routed_generator.h"
#include "router/worker_roster.h"
#include "server/api_keys.h"

namespace pleiad::apps {

// The workers of a router (router/worker_roster.h) over HTTP and on a loop: those that an operator
// gave, by flag or while it runs, and those that say themselves that they are there
// (server/router_registration.h), under the cluster's secret. Loop thread, or before the loop runs.
class WorkerRegistry {
 public:
  static constexpr std::string_view kPrefix = "/internal/";

  struct Options {
    std::string secret;
    Nanoseconds sweep_interval = std::chrono::milliseconds(500);
  };

  // All must outlive it.
  WorkerRegistry(
      net::EventLoop& loop,
      router::RoutedGenerator& generator,
      MetricsRegistry& metrics,
      Options options
  );
  WorkerRegistry(const WorkerRegistry&) = delete;
  WorkerRegistry& operator=(const WorkerRegistry&) = delete;

  // "http://host:port" without a slash at its end, so that a worker has one name. Fails with
  // InvalidInput.
  static Result<std::string> worker_url(std::string_view text);

  // What operators do. A worker is any form of its worker_url(). Fail with InvalidInput, and with
  // NotFound where there must be such a worker.
  // A worker of another role than `wanted` is refused when it reports.
  Result<void> add(std::string_view worker, std::optional<api::Role> wanted = std::nullopt);
  Result<void> set_draining(std::string_view worker, bool draining);
  // What runs there goes on elsewhere; it may not register again until add() takes it in.
  Result<void> remove(std::string_view worker);
  // RoutedGenerator's list, with what is known of leases.
  [[nodiscard]] Json workers_json() const;

  // A request whose path begins with kPrefix.
  void handle(const net::HttpRequest& request, net::Responder& responder);

 private:
  net::HttpResponse register_worker(const Json& body);
  net::HttpResponse deregister_worker(const Json& body);
  Result<void> renew(const std::string& url, double seconds);
  void sweep();
  void count(std::string_view event);

  net::EventLoop& loop_;
  router::RoutedGenerator& generator_;
  MetricsRegistry& metrics_;
  Options options_;
  server::ApiKeys keys_;
  SystemClock clock_;
  router::WorkerRoster roster_;
  Gauge& registered_;
  net::Timer timer_;
};

}  // namespace pleiad::apps
