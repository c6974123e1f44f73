#include "router/workers_json.h"

#include <cstdint>
#include <utility>

namespace pleiad::router {
namespace {

// What the worker says of a rank.
Json report_json(const api::GeneratorStatus& status) {
  Json out;
  out.set("running", status.running);
  out.set("waiting", status.waiting);
  out.set("pages_total", status.pages_total);
  out.set("pages_held", status.pages_held);
  out.set("pages_cached", status.pages_cached);
  out.set("tokens_outstanding", status.tokens_outstanding);
  return out;
}

// What the router knows of it.
Json unit_json(const WorkerTable& table, UnitIndex unit) {
  const UnitLoad& load = table.loads().load(unit);
  Json out;
  out.set("dp_rank", table.place(unit).dp_rank);
  out.set("open_requests", load.requests);
  out.set("prefill_tokens", load.prefill);
  out.set("held_tokens", load.held);
  out.set("foreign_tokens", load.foreign);
  out.set("cached_pages", static_cast<std::int64_t>(table.prefixes().pages_of(unit)));
  const auto& reports = table.workers()[table.place(unit).worker].report.ranks;
  const auto rank = static_cast<std::size_t>(table.place(unit).dp_rank);
  if (rank < reports.size()) out.set("report", report_json(reports[rank]));
  return out;
}

}  // namespace

Json workers_json(const WorkerTable& table) {
  JsonArray list;
  for (const Worker& worker : table.workers()) {
    if (worker.state == WorkerState::Removed) continue;
    Json out;
    out.set("url", worker.url);
    out.set("state", to_string(worker.state));
    out.set("role", api::to_string(worker.report.role));
    if (!worker.reason.empty()) out.set("reason", worker.reason);
    out.set("draining", worker.draining);
    out.set("missed_reports", worker.missed);
    if (!worker.report.instance.empty()) {
      out.set("instance", worker.report.instance);
      out.set("version", worker.report.identity.version);
      out.set("model", worker.report.identity.model);
      out.set("model_tokens_max", worker.report.limits.model_tokens_max);
    }
    JsonArray ranks;
    for (const UnitIndex unit : worker.units) {
      ranks.push_back(unit_json(table, unit));
    }
    out.set("ranks", std::move(ranks));
    list.push_back(std::move(out));
  }
  Json out;
  out.set("workers", std::move(list));
  return out;
}

}  // namespace pleiad::router
