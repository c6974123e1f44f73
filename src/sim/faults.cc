#include "sim/faults.h"

#include <utility>

namespace pleiad::sim {
namespace {

// No process starts sooner after another's death, which is known to all peers by then.
constexpr Nanoseconds kStartMin = std::chrono::milliseconds(50);

constexpr Fault kFaults[] = {
    Fault::Kill,
    Fault::LosePower,
    Fault::Freeze,
    Fault::SlowDown,
    Fault::Drain,
    Fault::LoseRank,
    Fault::BreakOne,
    Fault::SilenceOne,
    Fault::BreakTransfer,
    Fault::SilenceTransfer,
    Fault::Clog,
    Fault::OperatorDrain,
    Fault::OperatorRemove,
};

}  // namespace

Faults::Faults(const World& world, std::uint64_t seed)
    : timeline_(world.timeline),
      core_(world.core),
      network_(world.network),
      registry_(world.registry),
      random_(seed) {
  for (const Fault fault : kFaults) {
    if (random_.below(2) == 0) kinds_.push_back(fault);
  }
  if (kinds_.empty()) kinds_.push_back(Fault::Kill);
}

Nanoseconds Faults::draw(std::int64_t low_ms, std::int64_t high_ms) {
  return std::chrono::milliseconds(random_.between(low_ms, high_ms));
}

void Faults::later(Nanoseconds delay, Timeline::Task task) {
  timeline_.after(delay, [this, task = std::move(task)] {
    if (!healed_) task();
  });
}

void Faults::happen() {
  const Fault fault = kinds_[random_.below(kinds_.size())];
  happen(fault, random_.below(network_.hosts()));
}

void Faults::happen(Fault fault, std::size_t host) {
  SimWorker* worker = network_.host(host).worker.get();
  if (worker == nullptr) return;
  ++happened_;
  const int start = network_.host(host).starts;
  const auto same_process = [this, host, start](const std::function<void(SimWorker&)>& task) {
    const SimHost& now = network_.host(host);
    if (now.starts == start && now.worker != nullptr) task(*now.worker);
  };
  switch (fault) {
    case Fault::Kill:
      network_.kill(host);
      restart_later(host);
      return;
    case Fault::LosePower:
      network_.lose_power(host);
      restart_later(host);
      return;
    case Fault::Freeze:
      worker->freeze();
      later(draw(50, 6000), [this, host] { network_.go_on(host); });
      return;
    case Fault::SlowDown:
      worker->slow_down(10);
      later(draw(500, 5000), [same_process] {
        same_process([](SimWorker& slow) { slow.slow_down(1); });
      });
      return;
    case Fault::Drain:
      drain(host);
      return;
    case Fault::LoseRank:
      worker->lose_rank(random_.below(worker->dp_ranks()));
      return;
    case Fault::BreakOne:
      network_.break_one(host);
      return;
    case Fault::SilenceOne:
      network_.silence_one(host);
      return;
    case Fault::BreakTransfer:
      network_.break_transfer(host);
      return;
    case Fault::SilenceTransfer:
      network_.silence_transfer(host);
      return;
    case Fault::Clog:
      clog(host);
      return;
    case Fault::OperatorDrain:
      operator_drain(host, /*draining=*/true);
      later(draw(100, 3000), [this, host] { operator_drain(host, /*draining=*/false); });
      return;
    case Fault::OperatorRemove:
      remove(host);
      later(draw(100, 3000), [this, host] { add_back(host); });
      return;
  }
}

void Faults::restart_later(std::size_t host) {
  const Nanoseconds longest = std::chrono::seconds(5);
  const Nanoseconds pause{random_.between(kStartMin.count(), longest.count())};
  later(pause, [this, host] {
    if (network_.host(host).worker != nullptr) return;
    // Some come back in another layout.
    if (random_.below(4) == 0) network_.host(host).process.dp_ranks = 1 + random_.below(3);
    network_.start(host);
  });
}

// Takes nothing more, ends what it can, gives up the rest, exits.
void Faults::drain(std::size_t host) {
  const int start = network_.host(host).starts;
  const auto still = [this, host, start] {
    const SimHost& now = network_.host(host);
    return now.starts == start && now.worker != nullptr;
  };
  network_.host(host).worker->stop_accepting();
  registry_.leave(host);
  const Nanoseconds grace = draw(100, 2000);
  later(grace, [this, host, still] {
    if (still()) network_.host(host).worker->give_up();
  });
  later(grace + draw(1, 500), [this, host, still] {
    if (!still()) return;
    network_.kill(host);
    restart_later(host);
  });
}

void Faults::clog(std::size_t host) {
  SimHost& clogged = network_.host(host);
  const std::uint64_t way = random_.below(3);
  const Nanoseconds until = timeline_.now() + draw(50, 4000);
  if (way != 0) clogged.clogged_to = until;
  if (way != 1) clogged.clogged_from = until;
}

void Faults::operator_drain(std::size_t host, bool draining) {
  (void)core_.drain_worker(network_.host(host).url, draining);  // it may be removed
}

void Faults::remove(std::size_t host) {
  removed_.insert(host);
  registry_.remove(host);
}

void Faults::add_back(std::size_t host) {
  removed_.erase(host);
  registry_.add(host);
}

void Faults::heal() {
  healed_ = true;
  network_.keep_records();
  registry_.heal();
  for (std::size_t i = 0; i < network_.hosts(); ++i) {
    SimHost& host = network_.host(i);
    // What shuts down or lost its machine is started anew.
    if (host.worker != nullptr && !host.worker->report().accepting) network_.kill(i);
    if (host.worker == nullptr) {
      timeline_.after(kStartMin, [this, i] {
        if (network_.host(i).worker == nullptr) network_.start(i);
      });
    } else {
      network_.go_on(i);
      host.worker->slow_down(1);
    }
    host.clogged_to = {};
    host.clogged_from = {};
    if (removed_.contains(i)) add_back(i);
    operator_drain(i, /*draining=*/false);
  }
}

}  // namespace pleiad::sim
