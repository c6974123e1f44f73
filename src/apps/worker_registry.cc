#include "apps/worker_registry.h"

#include <utility>

#include <fmt/core.h>

#include "base/log.h"
#include "net/url.h"
#include "server/api_error.h"
#include "server/server_info.h"

namespace pleiad::apps {
namespace {

constexpr double kLeaseSecondsMin = 1.0;
constexpr double kLeaseSecondsMax = 3600.0;

net::HttpResponse refusal(const Error& error) {
  // A peer that an operator sent away is told so plainly.
  if (error.kind == ErrorKind::Unsupported) {
    return server::error_response(
        {.status = 403, .type = "permission_error", .message = error.message}
    );
  }
  return server::error_response(server::from_error(error));
}

Result<std::string> url_in(const Json& body) {
  const Json* url = body.find("url");
  const std::string* text = url == nullptr ? nullptr : url->as_string();
  if (text == nullptr) return invalid_input("url is missing: http://host:port of the worker");
  return WorkerRegistry::worker_url(*text);
}

}  // namespace

WorkerRegistry::WorkerRegistry(
    net::EventLoop& loop,
    router::RoutedGenerator& generator,
    MetricsRegistry& metrics,
    Options options
)
    : loop_(loop),
      generator_(generator),
      metrics_(metrics),
      options_(std::move(options)),
      keys_({options_.secret}),
      roster_(generator),
      registered_(metrics.gauge(
          "pleiad_router_registered_workers",
          "Workers that are here because they said so"
      )) {
  timer_ = loop_.after(options_.sweep_interval, [this] { sweep(); });
}

Result<std::string> WorkerRegistry::worker_url(std::string_view text) {
  auto url = net::parse_url(text);
  if (!url.ok()) return with_context(std::move(url).error(), text);
  if (url->target != "/") {
    return invalid_input("{} names a path; a worker is http://host:port", text);
  }
  return "http://" + net::host_and_port(*url);
}

Result<void> WorkerRegistry::add(std::string_view worker, std::optional<api::Role> wanted) {
  PLEIAD_TRY(url, worker_url(worker));
  return roster_.add(url, wanted);
}

Result<void> WorkerRegistry::set_draining(std::string_view worker, bool draining) {
  PLEIAD_TRY(url, worker_url(worker));
  return generator_.drain_worker(url, draining);
}

Result<void> WorkerRegistry::remove(std::string_view worker) {
  PLEIAD_TRY(url, worker_url(worker));
  return roster_.remove(url);
}

Json WorkerRegistry::workers_json() const {
  Json out = generator_.workers_json();
  JsonArray list = *out.find("workers")->as_array();
  const Nanoseconds now = clock_.now();
  for (Json& worker : list) {
    const std::string url = *worker.find("url")->as_string();
    const bool registered = roster_.leases().has(url);
    worker.set("registered", registered);
    if (registered) worker.set("lease_seconds", to_seconds(roster_.leases().left(url, now)));
  }
  out.set("workers", std::move(list));
  return out;
}

void WorkerRegistry::handle(const net::HttpRequest& request, net::Responder& responder) {
  if (!keys_.admits(request.headers.find("Authorization").value_or(""))) {
    responder.respond(server::error_response(
        {.status = 401, .message = "this route is for peers that know the cluster's secret"}
    ));
    return;
  }
  const std::string_view name = std::string_view(request.path).substr(kPrefix.size());
  const bool known = name == "register" || name == "deregister";
  if (!known || request.method != "POST") {
    responder.respond(server::error_response(
        {.status = 404, .message = "a router takes POST /internal/register and deregister"}
    ));
    return;
  }
  constexpr std::size_t kBodyBytesMax = 4096;
  const auto body = parse_json(request.body, {.depth_max = 4, .bytes_max = kBodyBytesMax});
  if (!body.ok()) {
    responder.respond(refusal(body.error()));
    return;
  }
  responder.respond(name == "register" ? register_worker(*body) : deregister_worker(*body));
}

Result<void> WorkerRegistry::renew(const std::string& url, double seconds) {
  const Nanoseconds lease(static_cast<std::int64_t>(seconds * 1e9));
  PLEIAD_TRY(is_new, roster_.renew(url, lease, clock_.now()));
  if (!is_new) return {};
  PLEIAD_LOG(Info, "worker {} registered", url);
  count("registered");
  return {};
}

net::HttpResponse WorkerRegistry::register_worker(const Json& body) {
  const auto url = url_in(body);
  if (!url.ok()) return refusal(url.error());
  const Json* given = body.find("lease_seconds");
  const double seconds = given == nullptr ? 0.0 : given->as_double().value_or(0.0);
  if (!(seconds >= kLeaseSecondsMin && seconds <= kLeaseSecondsMax)) {
    return refusal(invalid_input(
        "lease_seconds must be a number from {} to {}", kLeaseSecondsMin, kLeaseSecondsMax
    ));
  }
  const auto renewed = renew(*url, seconds);
  if (!renewed.ok()) return refusal(renewed.error());
  registered_.set(static_cast<double>(roster_.leases().size()));
  Json out;
  out.set("url", *url);
  out.set("lease_seconds", seconds);
  return server::json_response(out);
}

net::HttpResponse WorkerRegistry::deregister_worker(const Json& body) {
  const auto url = url_in(body);
  if (!url.ok()) return refusal(url.error());
  if (roster_.give_up(*url, clock_.now())) {
    PLEIAD_LOG(Info, "worker {} says that it goes", *url);
    count("left");
  }
  return {.status = 204};
}

void WorkerRegistry::sweep() {
  timer_ = loop_.after(options_.sweep_interval, [this] { sweep(); });
  for (const std::string& url : roster_.sweep(clock_.now())) {
    PLEIAD_LOG(Info, "worker {} is removed: its lease is over and it does not answer", url);
    count("removed");
  }
  registered_.set(static_cast<double>(roster_.leases().size()));
}

void WorkerRegistry::count(std::string_view event) {
  metrics_
      .counter(
          "pleiad_router_registrations_total",
          "What registered workers did: registered, left, or were removed",
          {{"event", std::string(event)}}
      )
      .add();
}

}  // namespace pleiad::apps
