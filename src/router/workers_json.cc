#include "router/workers_json.h"

#include <cstdint>
#include <utility>

namespace pleiad::router {
namespace {

Json unit_json(const WorkerTable& table, UnitIndex unit) {
  const UnitLoad& load = table.loads().load(unit);
  Json out;
  out.set("dp_rank", table.place(unit).dp_rank);
  out.set("open_requests", load.requests);
  out.set("prefill_tokens", load.prefill);
  out.set("held_tokens", load.held);
  out.set("foreign_tokens", load.foreign);
  out.set("cached_pages", static_cast<std::int64_t>(table.prefixes().pages_of(unit)));
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
