#include "router/worker_watch.h"

#include <utility>

#include "base/json.h"

namespace pleiad::router {
namespace {

constexpr std::size_t kReportBytesMax = std::size_t{4} << 20U;

Result<api::WorkerReport> report_of(int status, const std::string& body) {
  if (status == 401) return invalid_input("the worker knows another secret, or none");
  if (status != 200) return unavailable("status {} in place of a report", status);
  PLEIAD_TRY(json, parse_json(body));
  return api::worker_report_of(json);
}

}  // namespace

WorkerWatch::WorkerWatch(net::EventLoop& loop, Options options, Handler handler)
    : loop_(loop),
      options_(std::move(options)),
      handler_(std::move(handler)),
      client_(
          loop,
          {.connect_timeout = options_.timeout,
           .head_timeout = options_.timeout,
           .idle_timeout = options_.timeout,
           .body_bytes_max = kReportBytesMax,
           .idle_connections_max = 1}
      ) {}

Result<void> WorkerWatch::watch(WorkerIndex worker, const std::string& url) {
  PLEIAD_TRY(parsed, net::parse_url(url + "/internal/report"));
  auto watched = std::make_unique<Watched>();
  watched->url = parsed;
  watched_[worker] = std::move(watched);
  ask(worker);
  return {};
}

void WorkerWatch::forget(WorkerIndex worker) {
  watched_.erase(worker);
}

void WorkerWatch::ask(WorkerIndex worker) {
  Watched& watched = *watched_.at(worker);
  watched.status = 0;
  watched.body.clear();
  watched.call = client_.send(
      {.url = watched.url, .headers = {{"Authorization", "Bearer " + options_.secret}}},
      {.on_head = [&watched](const net::HttpResponseHead& head) { watched.status = head.status; },
       .on_body = [&watched](std::string_view bytes) { watched.body.append(bytes); },
       .on_end = [this, worker](Result<void> ended) { on_end(worker, std::move(ended)); }}
  );
}

void WorkerWatch::on_end(WorkerIndex worker, Result<void> ended) {
  Watched& watched = *watched_.at(worker);
  auto report = ended.ok() ? report_of(watched.status, watched.body)
                           : Result<api::WorkerReport>(std::move(ended).error());
  watched.timer = loop_.after(options_.interval, [this, worker] { ask(worker); });
  handler_(worker, std::move(report));  // may forget the worker
}

}  // namespace pleiad::router
