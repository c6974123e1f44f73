#include "router/worker_table.h"

#include <algorithm>
#include <limits>
#include <utility>

#include <fmt/core.h>

#include "base/check.h"

namespace pleiad::router {
namespace {

// Why a worker's role is not the one it was given for; empty: it is, or any will do.
std::string unlike_role(const Worker& worker, const api::WorkerReport& report) {
  if (!worker.wanted || *worker.wanted == report.role) return {};
  return fmt::format(
      "--disaggregation-mode {} is wanted, the worker's is {}",
      api::to_string(*worker.wanted),
      api::to_string(report.role)
  );
}

}  // namespace

std::string_view to_string(WorkerState state) {
  switch (state) {
    case WorkerState::Joining:
      return "joining";
    case WorkerState::Ready:
      return "ready";
    case WorkerState::Busy:
      return "busy";
    case WorkerState::Draining:
      return "draining";
    case WorkerState::Refused:
      return "refused";
    case WorkerState::Down:
      return "down";
    case WorkerState::Removed:
      return "removed";
  }
  return "";
}

Result<WorkerIndex> WorkerTable::add(std::string url, std::optional<api::Role> wanted) {
  if (find(url)) return invalid_input("there is a worker {} already", url);
  const auto here = static_cast<std::size_t>(std::ranges::count_if(workers_, [](const Worker& w) {
    return w.state != WorkerState::Removed;
  }));
  if (here >= options_.workers_max) {
    return invalid_input("{} workers are as many as one router takes", options_.workers_max);
  }
  workers_.push_back({.url = std::move(url), .wanted = wanted});
  return static_cast<WorkerIndex>(workers_.size() - 1);
}

std::optional<WorkerIndex> WorkerTable::find(std::string_view url) const {
  for (WorkerIndex index = 0; index < workers_.size(); ++index) {
    const Worker& worker = workers_[index];
    if (worker.url == url && worker.state != WorkerState::Removed) return index;
  }
  return std::nullopt;
}

void WorkerTable::set_draining(WorkerIndex worker, bool draining) {
  workers_[worker].draining = draining;
  update_eligible(worker);
}

void WorkerTable::remove(WorkerIndex worker) {
  workers_[worker].state = WorkerState::Removed;
  for (const UnitIndex unit : workers_[worker].units) {
    prefixes_.reset_unit(unit, 0);
  }
  update_eligible(worker);
}

void WorkerTable::reported(WorkerIndex index, api::WorkerReport report) {
  Worker& worker = workers_[index];
  if (worker.state == WorkerState::Removed) return;
  worker.missed = 0;
  ++worker.reports;
  std::string unlike = unlike_role(worker, report);
  if (unlike.empty()) {
    if (!identity_) identity_ = report.identity;
    unlike = api::difference(*identity_, report.identity);
  }
  const bool restarted = report.instance != worker.report.instance;
  worker.report = std::move(report);
  if (!unlike.empty()) {
    worker.state = WorkerState::Refused;
    worker.reason = unlike;
    update_eligible(index);
    return;
  }
  worker.state = worker.report.accepting ? WorkerState::Ready : WorkerState::Busy;
  worker.reason.clear();
  if (restarted || worker.units.size() < worker.report.ranks.size()) place_units(index);
  for (std::size_t rank = 0; rank < worker.report.ranks.size(); ++rank) {
    loads_.report(worker.units[rank], worker.report.ranks[rank]);
  }
  update_eligible(index);
}

// Numbers for all its dp ranks, with empty caches as far as the router knows.
void WorkerTable::place_units(WorkerIndex index) {
  Worker& worker = workers_[index];
  while (worker.units.size() < worker.report.ranks.size()) {
    worker.units.push_back(static_cast<UnitIndex>(places_.size()));
    places_.push_back({index, static_cast<std::int32_t>(worker.units.size() - 1)});
    eligible_.push_back(0);
    prefill_eligible_.push_back(0);
    loads_.add_unit();
  }
  for (std::size_t rank = worker.report.ranks.size(); rank < worker.units.size(); ++rank) {
    eligible_[worker.units[rank]] = 0;
    prefill_eligible_[worker.units[rank]] = 0;
  }
  for (std::size_t rank = 0; rank < worker.units.size(); ++rank) {
    const bool here = rank < worker.report.ranks.size();
    const std::int64_t pages = here ? worker.report.ranks[rank].pages_total : 0;
    prefixes_.reset_unit(worker.units[rank], static_cast<std::size_t>(pages));
  }
}

void WorkerTable::missed(WorkerIndex index, std::string_view reason) {
  Worker& worker = workers_[index];
  if (worker.state == WorkerState::Removed || ++worker.missed < options_.misses_max) return;
  lost(index, reason);
}

void WorkerTable::lost(WorkerIndex index, std::string_view reason) {
  Worker& worker = workers_[index];
  if (worker.state == WorkerState::Removed) return;
  worker.state = WorkerState::Down;
  worker.reason = reason;
  update_eligible(index);
}

void WorkerTable::update_eligible(WorkerIndex index) {
  Worker& worker = workers_[index];
  if (worker.state == WorkerState::Ready && worker.draining) worker.state = WorkerState::Draining;
  if (worker.state == WorkerState::Draining && !worker.draining) worker.state = WorkerState::Ready;
  const bool ready = worker.state == WorkerState::Ready;
  const bool prefills = worker.report.role == api::Role::Prefill;
  for (std::size_t rank = 0; rank < worker.units.size(); ++rank) {
    const bool open = ready && rank < worker.report.ranks.size();
    eligible_[worker.units[rank]] = open && !prefills ? 1 : 0;
    prefill_eligible_[worker.units[rank]] = open && prefills ? 1 : 0;
  }
}

bool WorkerTable::any_eligible() const {
  return std::ranges::any_of(eligible_, [](std::uint8_t is) { return is != 0; });
}

api::GeneratorLimits WorkerTable::limits() const {
  constexpr std::int64_t kUnlimited = std::numeric_limits<std::int32_t>::max();
  api::GeneratorLimits out{.vocabulary = kUnlimited, .model_tokens_max = kUnlimited};
  for (const Worker& worker : workers_) {
    const bool counts =
        worker.state != WorkerState::Removed && worker.state != WorkerState::Refused;
    if (!counts || worker.report.ranks.empty()) continue;
    out.vocabulary = worker.report.limits.vocabulary;
    out.model_tokens_max = std::min(out.model_tokens_max, worker.report.limits.model_tokens_max);
  }
  return out;
}

}  // namespace pleiad::router
