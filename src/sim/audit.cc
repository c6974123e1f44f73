#include "sim/audit.h"

#include <fmt/core.h>

namespace pleiad::sim {
namespace {

// What was preempted waits too.
std::int64_t queue_max(const SimHost& host) {
  const sched::SchedulerOptions& scheduler = host.process.scheduler;
  return static_cast<std::int64_t>(host.worker->dp_ranks()) *
         (scheduler.waiting_max + scheduler.running_max);
}

}  // namespace

void Audit::check_now() {
  const std::size_t open = world_.core.open_requests();
  if (world_.clients.open() != open) {
    verdict_.violated(
        fmt::format("{} clients wait for the end of {} requests", world_.clients.open(), open)
    );
  }
  world_.ledger.check(world_.admission);
  check_queues();
  check_loads();
}

void Audit::check_queues() {
  for (std::size_t i = 0; i < world_.network.hosts(); ++i) {
    const SimHost& host = world_.network.host(i);
    if (host.worker != nullptr && host.worker->queued() > queue_max(host)) {
      verdict_.violated(fmt::format("{} queues {}", host.url, host.worker->queued()));
    }
  }
}

void Audit::check_loads() {
  const router::WorkerTable& table = world_.core.table();
  std::int64_t placed = 0;
  for (router::UnitIndex unit = 0; unit < table.loads().units(); ++unit) {
    // Who computes a prompt for another does not own the request.
    const router::Worker& worker = table.workers()[table.place(unit).worker];
    if (worker.report.role != api::Role::Prefill) placed += table.loads().load(unit).requests;
  }
  const auto owned =
      static_cast<std::int64_t>(world_.core.open_requests() - world_.core.waiting_requests());
  if (placed != owned) {
    verdict_.violated(fmt::format("{} requests are placed, {} are not waiting", placed, owned));
  }
}

// A worker that was killed counts as ready until so many reports are missed: the router must have
// heard of the process that is there now.
bool Audit::knows(const SimHost& host) const {
  const router::WorkerTable& table = world_.core.table();
  const auto known = table.find(host.url);
  if (host.worker == nullptr || !known) return false;
  const router::Worker& worker = table.workers()[*known];
  return worker.state == router::WorkerState::Ready &&
         worker.report.instance == host.worker->instance();
}

bool Audit::all_ready() const {
  for (std::size_t host = 0; host < world_.network.hosts(); ++host) {
    if (!knows(world_.network.host(host))) return false;
  }
  return world_.core.summary().not_ready.empty();
}

bool Audit::idle() const {
  return world_.sessions.empty() && world_.network.idle() && all_ready();
}

void Audit::check_idle() {
  if (!world_.sessions.empty()) {
    verdict_.violated(fmt::format("{} clients were never told their end", world_.sessions.size()));
  }
  if (!all_ready()) {
    verdict_.violated("a worker is not ready again");
    return;
  }
  if (!world_.network.idle()) {
    verdict_.violated("a worker or a connection is left with work of nobody");
  }
  for (std::size_t i = 0; i < world_.network.hosts(); ++i) {
    const SimHost& host = world_.network.host(i);
    if (host.worker->pages_held() != 0) {
      verdict_.violated(fmt::format("{} holds pages for nobody", host.url));
    }
  }
  const router::LoadLedger& loads = world_.core.table().loads();
  for (router::UnitIndex unit = 0; unit < loads.units(); ++unit) {
    const router::UnitLoad& load = loads.load(unit);
    if (load.held != 0 || load.prefill != 0) {
      verdict_.violated(fmt::format("unit {} is thought to hold {} tokens", unit, load.held));
    }
  }
}

}  // namespace pleiad::sim
