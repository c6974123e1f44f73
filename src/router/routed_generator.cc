#include "router/routed_generator.h"

#include <memory>
#include <utility>

#include "router/workers_json.h"

namespace pleiad::router {

RoutedGenerator::Metrics RoutedGenerator::make_metrics(MetricsRegistry& registry) {
  Metrics out{
      .requests = registry.counter("pleiad_router_requests_total", "Requests accepted"),
      .replays = registry.counter(
          "pleiad_router_replays_total", "Times that a request went on at another worker"
      ),
      .failed = registry.counter(
          "pleiad_router_failed_requests_total", "Requests that ended with an error"
      ),
      .prompt_tokens =
          registry.counter("pleiad_router_prompt_tokens_total", "Prompt tokens sent to workers"),
      .cached_tokens = registry.counter(
          "pleiad_router_prefix_hit_tokens_total",
          "Prompt tokens expected in the prefix cache of the chosen worker"
      ),
      .hand_overs =
          registry.counter("pleiad_router_hand_overs_total", "Prompts sent to a prefill worker"),
      .prefill_losses = registry.counter(
          "pleiad_router_prefill_losses_total", "Of these, those that it did not bring"
      ),
      .open = registry.gauge("pleiad_router_open_requests", "Requests under way or waiting"),
      .ready = registry.gauge("pleiad_router_ready_workers", "Workers that take requests"),
  };
  for (const ChoiceReason reason : kChoiceReasons) {
    out.choices[static_cast<std::size_t>(reason)] = &registry.counter(
        "pleiad_router_decisions_total",
        "Choices of a unit, by what decided them",
        {{"reason", std::string(to_string(reason))}}
    );
  }
  return out;
}

RoutedGenerator::RoutedGenerator(
    net::EventLoop& loop,
    MetricsRegistry& metrics,
    const RouterOptions& options
)
    : loop_(loop),
      options_(options),
      metrics_(make_metrics(metrics)),
      link_(
          loop,
          core_,
          {.secret = options.secret,
           .connect_timeout = options.connect_timeout,
           .silence_max = options.silence_max},
          [this] { count(); }
      ),
      core_(clock_, link_, options.core),
      watch_(
          loop,
          {.secret = options.secret,
           .interval = options.report_interval,
           .timeout = options.report_timeout},
          [this](WorkerIndex worker, Result<api::WorkerReport> report) {
            core_.on_report(worker, std::move(report));
            publish();
          }
      ) {
  timer_ = loop_.after(options_.tick_interval, [this] { tick(); });
}

void RoutedGenerator::tick() {
  core_.on_tick();
  publish();
  timer_ = loop_.after(options_.tick_interval, [this] { tick(); });
}

Result<void> RoutedGenerator::add_worker(const std::string& url, std::optional<api::Role> wanted) {
  PLEIAD_TRY(net::parse_url(url));
  PLEIAD_TRY(worker, core_.add_worker(url, wanted));
  return watch_.watch(worker, url);
}

Result<void> RoutedGenerator::drain_worker(std::string_view url, bool draining) {
  auto drained = core_.drain_worker(url, draining);
  publish();
  return drained;
}

Result<void> RoutedGenerator::remove_worker(std::string_view url) {
  PLEIAD_TRY(worker, core_.remove_worker(url));
  watch_.forget(worker);
  publish();
  return {};
}

Json RoutedGenerator::workers_json() const {
  return router::workers_json(core_.table());
}

Json RoutedGenerator::explain(const RouteQuestion& question) const {
  return explain_route(core_.table(), core_.policies(), question);
}

std::string RoutedGenerator::why_not_ready() const {
  const std::scoped_lock lock(mutex_);
  return summary_.not_ready;
}

Result<void> RoutedGenerator::check(const api::GenerationRequest& request) const {
  if (!accepting_.load()) return unavailable("the router is draining");
  if (request.prompt.empty()) return invalid_input("the prompt has no tokens");
  const auto tokens = static_cast<std::int64_t>(request.prompt.size()) + request.max_tokens;
  const std::scoped_lock lock(mutex_);
  if (!summary_.not_ready.empty()) return unavailable("not ready: {}", summary_.not_ready);
  if (tokens > summary_.limits.model_tokens_max) {
    return invalid_input(
        "prompt of {} tokens plus max_tokens {} exceeds the context of {} tokens",
        request.prompt.size(),
        request.max_tokens,
        summary_.limits.model_tokens_max
    );
  }
  return {};
}

Result<api::RequestId>
RoutedGenerator::submit(api::GenerationRequest request, api::GenerationSink& sink) {
  PLEIAD_TRY(check(request));
  if (open_.fetch_add(1) >= options_.open_max) {
    open_.fetch_sub(1);
    return exhausted("{} requests are under way; try later", options_.open_max);
  }
  const api::RequestId id(next_id_.fetch_add(1));
  loop_.post([this, id, request = std::move(request), &sink]() mutable {
    core_.submit(id, std::move(request), sink);
    count();
  });
  return id;
}

void RoutedGenerator::cancel(api::RequestId id) {
  loop_.post([this, id] {
    core_.cancel(id);
    count();
  });
}

void RoutedGenerator::finish_early(api::RequestId id) {
  loop_.post([this, id] {
    core_.finish_early(id);
    count();
  });
}

// The core's counts, as metrics.
void RoutedGenerator::count() {
  const RouterCounts& counts = core_.counts();
  const auto grow = [](Counter& counter, std::uint64_t now, std::uint64_t before) {
    if (now != before) counter.add(static_cast<double>(now - before));
  };
  grow(metrics_.requests, counts.requests, counted_.requests);
  grow(metrics_.replays, counts.replays, counted_.replays);
  grow(metrics_.failed, counts.failed, counted_.failed);
  grow(metrics_.prompt_tokens, counts.prompt_tokens, counted_.prompt_tokens);
  grow(metrics_.cached_tokens, counts.cached_tokens, counted_.cached_tokens);
  grow(metrics_.hand_overs, counts.hand_overs, counted_.hand_overs);
  grow(metrics_.prefill_losses, counts.prefill_losses, counted_.prefill_losses);
  for (std::size_t reason = 0; reason < counts.choices.size(); ++reason) {
    grow(*metrics_.choices[reason], counts.choices[reason], counted_.choices[reason]);
  }
  counted_ = counts;
  const std::uint64_t ended = counts.requests - core_.open_requests();
  open_.fetch_sub(ended - ended_);
  ended_ = ended;
  metrics_.open.set(static_cast<double>(core_.open_requests()));
}

// What other threads may know.
void RoutedGenerator::publish() {
  count();
  RouterSummary summary = core_.summary();
  metrics_.ready.set(static_cast<double>(summary.ready_workers));
  const std::scoped_lock lock(mutex_);
  summary_ = std::move(summary);
}

api::GeneratorStatus RoutedGenerator::status() const {
  const std::scoped_lock lock(mutex_);
  api::GeneratorStatus status = summary_.status;
  status.accepting = status.accepting && accepting_.load();
  return status;
}

api::GeneratorLimits RoutedGenerator::limits() const {
  const std::scoped_lock lock(mutex_);
  return summary_.limits;
}

}  // namespace pleiad::router
