#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "api/generation.h"
#include "base/clock.h"
#include "base/exposition.h"
#include "base/json.h"
#include "base/metrics.h"
#include "net/http_message.h"

namespace pleiad::server {

struct InfoOptions {
  std::vector<std::string> model_names;  // the first is told, all are answered to
  std::string version;
  double stuck_seconds = 30.0;  // without a step while work waits: unhealthy
  // Why no new requests are taken; empty: nobody knows. May be null. Any thread.
  std::function<std::string()> why_not_ready;
  // Metrics of other processes, to be shown among the registry's own. May be empty. Any thread.
  std::function<std::vector<Exposition>()> other_metrics;
};

// What a server tells about itself: models, health, version, metrics. Each member is the answer to
// one route. Any thread.
class ServerInfo {
 public:
  // All must outlive the info. REQUIRES: a model name.
  ServerInfo(
      const api::Generator& generator,
      const MetricsRegistry& metrics,
      const Clock& clock,
      InfoOptions options
  );

  [[nodiscard]] net::HttpResponse models() const;
  // REQUIRES: `name` is served.
  [[nodiscard]] net::HttpResponse model(const std::string& name) const;
  // The process runs.
  [[nodiscard]] net::HttpResponse live() const;
  // The generator makes progress; else 503.
  [[nodiscard]] net::HttpResponse health() const;
  // New requests are welcome; else 503.
  [[nodiscard]] net::HttpResponse ready(bool draining) const;
  [[nodiscard]] net::HttpResponse version() const;
  [[nodiscard]] net::HttpResponse metrics() const;

 private:
  [[nodiscard]] Json model_json(const std::string& name) const;

  const api::Generator& generator_;
  const MetricsRegistry& metrics_;
  InfoOptions options_;
  std::int64_t created_;  // unix seconds
};

// A JSON answer.
net::HttpResponse json_response(const Json& body, int status = 200);

}  // namespace pleiad::server
