#include "server/server_info.h"

#include <utility>

#include "base/check.h"

namespace pleiad::server {

net::HttpResponse json_response(const Json& body, int status) {
  return {
      .status = status,
      .headers = {{"Content-Type", "application/json"}},
      .body = body.dump(),
  };
}

ServerInfo::ServerInfo(
    const api::Generator& generator,
    const MetricsRegistry& metrics,
    const Clock& clock,
    InfoOptions options
)
    : generator_(generator),
      metrics_(metrics),
      options_(std::move(options)),
      created_(clock.unix_seconds()) {
  PLEIAD_CHECK(!options_.model_names.empty());
}

Json ServerInfo::model_json(const std::string& name) const {
  Json out;
  out.set("id", name);
  out.set("object", "model");
  out.set("created", created_);
  out.set("owned_by", "pleiad");
  out.set("root", options_.model_names.front());
  out.set("max_model_len", generator_.limits().model_tokens_max);
  return out;
}

net::HttpResponse ServerInfo::models() const {
  JsonArray list;
  for (const std::string& name : options_.model_names) {
    list.push_back(model_json(name));
  }
  Json body;
  body.set("object", "list");
  body.set("data", std::move(list));
  return json_response(body);
}

net::HttpResponse ServerInfo::model(const std::string& name) const {
  return json_response(model_json(name));
}

net::HttpResponse ServerInfo::live() const {
  Json body;
  body.set("status", "live");
  return json_response(body);
}

net::HttpResponse ServerInfo::health() const {
  const double idle_seconds = generator_.status().seconds_since_progress;
  const bool healthy = idle_seconds < options_.stuck_seconds;
  Json body;
  body.set("status", healthy ? "healthy" : "stuck");
  if (!healthy) body.set("seconds_since_progress", idle_seconds);
  return json_response(body, healthy ? 200 : 503);
}

net::HttpResponse ServerInfo::ready(bool draining) const {
  const api::GeneratorStatus status = generator_.status();
  std::string state = "ready";
  // A generator that takes nothing though nobody asked it to stop waits for ranks.
  if (!status.accepting) state = "unavailable";
  if (draining) state = "draining";
  if (status.seconds_since_progress >= options_.stuck_seconds) state = "stuck";
  Json body;
  body.set("status", state);
  if (state == "unavailable" && options_.why_not_ready) {
    const std::string why = options_.why_not_ready();
    if (!why.empty()) body.set("reason", why);
  }
  body.set("running", status.running);
  body.set("waiting", status.waiting);
  return json_response(body, state == "ready" ? 200 : 503);
}

net::HttpResponse ServerInfo::version() const {
  Json body;
  body.set("version", options_.version);
  return json_response(body);
}

net::HttpResponse ServerInfo::metrics() const {
  Exposition all = metrics_.collect();
  if (options_.other_metrics) all = merged(std::move(all), options_.other_metrics());
  return {
      .status = 200,
      .headers = {{"Content-Type", "text/plain; version=0.0.4; charset=utf-8"}},
      .body = to_text(all),
  };
}

}  // namespace pleiad::server
