#include "router/routed_generator.h"

#include <algorithm>
#include <utility>

#include <fmt/core.h>

#include "api/generation_wire.h"
#include "base/check.h"
#include "base/log.h"

namespace pleiad::router {
namespace {

constexpr std::size_t kRefusalBytesMax = std::size_t{64} << 10U;

// What an answer that is no stream says.
std::string message_of(const std::string& body, int status) {
  const auto json = parse_json(body);
  const Json* error = json.ok() ? json->find("error") : nullptr;
  const Json* message = error == nullptr ? nullptr : error->find("message");
  const std::string* text = message == nullptr ? nullptr : message->as_string();
  return text == nullptr ? fmt::format("status {}", status) : *text;
}

}  // namespace

RoutedGenerator::Metrics RoutedGenerator::make_metrics(MetricsRegistry& registry) {
  return {
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
      .open = registry.gauge("pleiad_router_open_requests", "Requests under way or waiting"),
      .ready = registry.gauge("pleiad_router_ready_workers", "Workers that take requests"),
  };
}

RoutedGenerator::RoutedGenerator(
    net::EventLoop& loop,
    MetricsRegistry& metrics,
    RouterOptions options
)
    : loop_(loop),
      options_(std::move(options)),
      metrics_(make_metrics(metrics)),
      table_(options_.table),
      policy_(options_.policy, options_.seed),
      client_(
          loop,
          {.connect_timeout = options_.connect_timeout,
           .head_timeout = options_.silence_max,
           .idle_timeout = options_.silence_max,
           .body_bytes_max = UINT64_MAX,
           .idle_connections_max = 256}
      ),
      watch_(
          loop,
          {.secret = options_.secret,
           .interval = options_.report_interval,
           .timeout = options_.report_timeout},
          [this](WorkerIndex worker, Result<api::WorkerReport> report) {
            on_report(worker, std::move(report));
          }
      ) {}

RoutedGenerator::~RoutedGenerator() {
  for (const auto& [id, request] : requests_) {
    request->finish({.reason = api::FinishReason::Cancelled});
  }
}

Result<void> RoutedGenerator::add_worker(const std::string& url) {
  PLEIAD_TRY(worker, table_.add(url));
  auto watched = watch_.watch(worker, url);
  if (!watched.ok()) table_.remove(worker);
  return watched;
}

Result<void> RoutedGenerator::drain_worker(std::string_view url, bool draining) {
  const auto worker = table_.find(url);
  if (!worker) return not_found("there is no worker {}", url);
  table_.set_draining(*worker, draining);
  publish();
  serve_waiting();
  return {};
}

Result<void> RoutedGenerator::remove_worker(std::string_view url) {
  const auto worker = table_.find(url);
  if (!worker) return not_found("there is no worker {}", url);
  watch_.forget(*worker);
  table_.remove(*worker);
  publish();
  move_away_from(*worker, "the worker was removed");
  return {};
}

Json RoutedGenerator::workers_json() const {
  JsonArray list;
  for (const Worker& worker : table_.workers()) {
    if (worker.state == WorkerState::Removed) continue;
    Json out;
    out.set("url", worker.url);
    out.set("state", to_string(worker.state));
    if (!worker.reason.empty()) out.set("reason", worker.reason);
    JsonArray ranks;
    for (std::size_t rank = 0; rank < worker.units.size(); ++rank) {
      const UnitLoad& load = table_.loads().load(worker.units[rank]);
      Json unit;
      unit.set("dp_rank", static_cast<std::int64_t>(rank));
      unit.set("open_requests", load.requests);
      unit.set("prefill_tokens", load.prefill);
      unit.set("held_tokens", load.held);
      unit.set("foreign_tokens", load.foreign);
      unit.set(
          "cached_pages", static_cast<std::int64_t>(table_.prefixes().size_of(worker.units[rank]))
      );
      ranks.push_back(std::move(unit));
    }
    out.set("ranks", std::move(ranks));
    list.push_back(std::move(out));
  }
  Json out;
  out.set("workers", std::move(list));
  return out;
}

Result<api::RequestId>
RoutedGenerator::submit(api::GenerationRequest request, api::GenerationSink& sink) {
  if (!accepting_.load()) return unavailable("the router is draining");
  {
    const std::scoped_lock lock(mutex_);
    if (!not_ready_.empty()) return unavailable("not ready: {}", not_ready_);
    const auto tokens = static_cast<std::int64_t>(request.prompt.size()) + request.max_tokens;
    if (request.prompt.empty()) return invalid_input("the prompt has no tokens");
    if (tokens > limits_.model_tokens_max) {
      return invalid_input(
          "prompt of {} tokens plus max_tokens {} exceeds the context of {} tokens",
          request.prompt.size(),
          request.max_tokens,
          limits_.model_tokens_max
      );
    }
  }
  if (open_.fetch_add(1) >= options_.open_max) {
    open_.fetch_sub(1);
    return exhausted("{} requests are under way; try later", options_.open_max);
  }
  const api::RequestId id(next_id_.fetch_add(1));
  auto routed = std::make_unique<RoutedRequest>(id, std::move(request), sink);
  loop_.post([this, routed = std::move(routed)]() mutable {
    metrics_.requests.add();
    RoutedRequest& placed = *routed;
    requests_.emplace(placed.id(), std::move(routed));
    dispatch(placed);
    metrics_.open.set(static_cast<double>(open_.load()));
  });
  return id;
}

RoutedRequest* RoutedGenerator::find(api::RequestId id) {
  const auto at = requests_.find(id);
  return at == requests_.end() ? nullptr : at->second.get();
}

// To the unit that the policy chooses, or to the end of the queue.
void RoutedGenerator::dispatch(RoutedRequest& request) {
  const auto eligible = table_.eligible();
  eligible_.assign(eligible.begin(), eligible.end());
  for (const UnitIndex unit : request.avoided) {
    eligible_[unit] = 0;
  }
  overlap_.resize(eligible_.size());
  table_.prefixes().match(request.keys(), overlap_);
  const auto choice = policy_.choose({
      .loads = &table_.loads(),
      .eligible = eligible_,
      .overlap = overlap_,
      .prompt_tokens = request.prompt_tokens(),
  });
  if (!choice) {
    request.avoided.clear();
    if (!request.waits_since) request.waits_since = clock_.now();
    waiting_.push_back(request.id());
    return;
  }
  const std::int64_t prompt = request.prompt_tokens();
  request.waits_since.reset();
  request.begin_attempt(
      choice->unit,
      {.prefill = std::max<std::int64_t>(prompt - choice->cached_tokens, 0),
       .held = prompt + request.rest().max_tokens}
  );
  table_.loads().begin(choice->unit, request.attempt->cost);
  table_.prefixes().add(choice->unit, request.keys());
  metrics_.prompt_tokens.add(static_cast<double>(prompt));
  metrics_.cached_tokens.add(static_cast<double>(std::min(choice->cached_tokens, prompt)));
  send(request);
}

void RoutedGenerator::send(RoutedRequest& request) {
  const UnitPlace& place = table_.place(request.attempt->unit);
  api::SubmitMessage message{.id = request.id(), .request = request.rest()};
  message.request.dp_rank = place.dp_rank;
  const auto bytes = api::encode(message);
  const std::string& worker = table_.workers()[place.worker].url;
  const api::RequestId id = request.id();
  request.attempt->call = client_.send(
      {.method = "POST",
       .url = net::parse_url(worker + "/internal/generate").value(),
       .headers = {{"Authorization", "Bearer " + options_.secret}},
       .body = std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()),
       .replayable = true},
      {.on_connected = [this, id] { find(id)->attempt->connected = true; },
       .on_head = [this, id](const net::HttpResponseHead& head
                  ) { find(id)->attempt->status = head.status; },
       .on_body = [this, id](std::string_view piece) { on_body(id, piece); },
       .on_end = [this, id](const Result<void>& ended) { on_end(id, ended); }}
  );
}

void RoutedGenerator::on_body(api::RequestId id, std::string_view bytes) {
  RoutedRequest& request = *find(id);
  RoutedRequest::Attempt& attempt = *request.attempt;
  if (attempt.status != 200) {
    attempt.refusal.append(bytes.substr(0, kRefusalBytesMax - attempt.refusal.size()));
    return;
  }
  const bool prefilled = attempt.prefilled;
  const auto fed = request.feed(bytes);
  if (!prefilled && attempt.prefilled) table_.loads().prefilled(attempt.unit, attempt.cost);
  if (!fed.ok()) {
    worker_lost(request, fed.error().message);
  } else if (attempt.finish) {
    judge(request);
  }
}

void RoutedGenerator::on_end(api::RequestId id, const Result<void>& ended) {
  RoutedRequest& request = *find(id);
  if (!ended.ok()) {
    worker_lost(request, ended.error().message);
  } else if (request.attempt->status != 200) {
    refused(request);
  } else {
    worker_lost(request, "the worker's answer ended too early");
  }
}

// The attempt has said how it ended.
void RoutedGenerator::judge(RoutedRequest& request) {
  const api::FinishEvent event = *request.attempt->finish;
  switch (event.reason) {
    case api::FinishReason::Stop:
    case api::FinishReason::Length:
    case api::FinishReason::Error:
      finish(request, event);
      return;
    case api::FinishReason::Cancelled:
      // Nobody here asked for that: the worker is going.
      try_again(request);
      return;
    case api::FinishReason::Lost:
      ++request.deaths;
      try_again(request);
      return;
  }
}

// An answer that is no stream.
void RoutedGenerator::refused(RoutedRequest& request) {
  const RoutedRequest::Attempt& attempt = *request.attempt;
  const std::string message = message_of(attempt.refusal, attempt.status);
  if (attempt.status == 429 || attempt.status == 503) {
    try_again(request);
    return;
  }
  finish(request, api::FinishReason::Error, message);
}

// The worker does not answer any more: others will be asked, until it reports again.
void RoutedGenerator::worker_lost(RoutedRequest& request, const std::string& why) {
  const UnitPlace& place = table_.place(request.attempt->unit);
  const bool may_have_begun = request.attempt->connected;
  table_.lost(place.worker, why);
  if (may_have_begun) ++request.deaths;
  PLEIAD_LOG(
      Warning,
      "worker {} is lost under request {}: {}",
      table_.workers()[place.worker].url,
      request.id().value(),
      why
  );
  try_again(request);
  publish();
}

void RoutedGenerator::try_again(RoutedRequest& request) {
  if (request.early) {
    finish(request, api::FinishReason::Stop);
    return;
  }
  if (request.complete()) {
    finish(request, api::FinishReason::Length);
    return;
  }
  if (request.deaths >= options_.deaths_max) {
    finish(
        request,
        api::FinishReason::Error,
        fmt::format("{} workers were lost while they answered this request", request.deaths)
    );
    return;
  }
  request.avoided.push_back(request.attempt->unit);
  end_attempt(request);
  metrics_.replays.add();
  dispatch(request);
}

void RoutedGenerator::end_attempt(RoutedRequest& request) {
  if (!request.attempt) return;
  const RoutedRequest::Attempt& attempt = *request.attempt;
  table_.loads().end(attempt.unit, attempt.cost, attempt.prefilled);
  request.attempt.reset();  // cuts the connection
}

void RoutedGenerator::finish(
    RoutedRequest& request,
    api::FinishReason reason,
    std::string message
) {
  finish(request, api::FinishEvent{.reason = reason, .message = std::move(message)});
}

void RoutedGenerator::finish(RoutedRequest& request, const api::FinishEvent& event) {
  const bool failed =
      event.reason == api::FinishReason::Error || event.reason == api::FinishReason::Lost;
  if (failed) metrics_.failed.add();
  end_attempt(request);
  request.finish(event);
  requests_.erase(request.id());
  open_.fetch_sub(1);
  metrics_.open.set(static_cast<double>(open_.load()));
}

void RoutedGenerator::cancel(api::RequestId id) {
  loop_.post([this, id] {
    RoutedRequest* request = find(id);
    if (request != nullptr) finish(*request, api::FinishReason::Cancelled);
  });
}

// The worker is told, so that it counts the request as one that succeeded.
void RoutedGenerator::finish_early(api::RequestId id) {
  loop_.post([this, id] {
    RoutedRequest* request = find(id);
    if (request == nullptr) return;
    request->early = true;
    if (request->attempt && request->remote_id()) {
      tell_worker_to_finish(*request);
    } else {
      finish(*request, api::FinishReason::Stop);
    }
  });
}

void RoutedGenerator::tell_worker_to_finish(const RoutedRequest& request) {
  const UnitPlace& place = table_.place(request.attempt->unit);
  const std::string url = fmt::format(
      "{}/internal/finish/{}", table_.workers()[place.worker].url, request.remote_id()->value()
  );
  // Kept until it ends; a worker that does not hear it is cut off by the request's own end.
  auto call = std::make_shared<net::HttpCall>();  // owners: the event below, until it has happened
  *call = client_.send(
      {.method = "POST",
       .url = net::parse_url(url).value(),
       .headers = {{"Authorization", "Bearer " + options_.secret}},
       .replayable = true},
      {.on_end =
           [this, call, id = request.id()](const Result<void>& ended) {
             RoutedRequest* open = find(id);
             if (!ended.ok() && open != nullptr) finish(*open, api::FinishReason::Stop);
             *call = {};
           }}
  );
}

void RoutedGenerator::on_report(WorkerIndex worker, Result<api::WorkerReport> report) {
  const WorkerState before = table_.workers()[worker].state;
  if (report.ok()) {
    table_.reported(worker, std::move(*report));
  } else {
    table_.missed(worker, report.error().message);
  }
  const Worker& now = table_.workers()[worker];
  if (now.state != before) {
    PLEIAD_LOG(
        Info,
        "worker {} is {}{}{}",
        now.url,
        to_string(now.state),
        now.reason.empty() ? "" : ": ",
        now.reason
    );
  }
  publish();
  if (now.state == WorkerState::Down) move_away_from(worker, now.reason);
  serve_waiting();
}

// A worker that is silent may still hold connections open.
void RoutedGenerator::move_away_from(WorkerIndex worker, const std::string& why) {
  std::vector<api::RequestId> there;
  for (const auto& [id, request] : requests_) {
    if (request->attempt && table_.place(request->attempt->unit).worker == worker) {
      there.push_back(id);
    }
  }
  for (const api::RequestId id : there) {
    RoutedRequest* request = find(id);
    if (request != nullptr && request->attempt) worker_lost(*request, why);
  }
}

void RoutedGenerator::serve_waiting() {
  const Nanoseconds now = clock_.now();
  for (std::size_t count = waiting_.size(); count > 0; --count) {
    RoutedRequest* request = find(waiting_.front());
    if (request == nullptr) {
      waiting_.pop_front();
    } else if (table_.any_eligible()) {
      waiting_.pop_front();
      dispatch(*request);
    } else if (now - *request->waits_since > options_.wait_max) {
      waiting_.pop_front();
      finish(*request, api::FinishReason::Lost, "no worker is ready");
    } else {
      return;
    }
  }
}

// What other threads may know.
void RoutedGenerator::publish() {
  api::GeneratorStatus sum{.accepting = table_.any_eligible()};
  std::int64_t ready = 0;
  std::string why = table_.workers().empty() ? "there is no worker" : "no worker is ready";
  for (const Worker& worker : table_.workers()) {
    if (worker.state == WorkerState::Removed) continue;
    if (worker.state == WorkerState::Ready) ++ready;
    if (!worker.reason.empty()) why = fmt::format("worker {}: {}", worker.url, worker.reason);
    for (const api::GeneratorStatus& rank : worker.report.ranks) {
      sum.running += rank.running;
      sum.waiting += rank.waiting;
      sum.pages_total += rank.pages_total;
      sum.pages_held += rank.pages_held;
      sum.pages_cached += rank.pages_cached;
    }
  }
  for (UnitIndex unit = 0; unit < table_.loads().units(); ++unit) {
    sum.tokens_outstanding += table_.loads().load(unit).tokens();
  }
  sum.waiting += static_cast<std::int64_t>(waiting_.size());
  metrics_.ready.set(static_cast<double>(ready));
  const std::scoped_lock lock(mutex_);
  status_ = sum;
  limits_ = table_.limits();
  not_ready_ = sum.accepting ? "" : why;
}

api::GeneratorStatus RoutedGenerator::status() const {
  const std::scoped_lock lock(mutex_);
  api::GeneratorStatus status = status_;
  status.accepting = status.accepting && accepting_.load();
  return status;
}

api::GeneratorLimits RoutedGenerator::limits() const {
  const std::scoped_lock lock(mutex_);
  return limits_;
}

}  // namespace pleiad::router
