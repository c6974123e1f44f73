#include "sim/registry.h"

#include <algorithm>
#include <utility>

#include <fmt/core.h>

namespace pleiad::sim {

Result<void> SimPool::add_worker(const std::string& url, std::optional<api::Role> wanted) {
  PLEIAD_TRY(worker, core_.add_worker(url, wanted));
  network_.watch(worker, network_.host_of(url));
  return {};
}

Result<void> SimPool::remove_worker(std::string_view url) {
  PLEIAD_TRY(worker, core_.remove_worker(url));
  network_.forget(worker);
  return {};
}

SimRegistry::SimRegistry(
    Timeline& timeline,
    SimNetwork& network,
    router::WorkerPool& pool,
    Verdict& verdict,
    std::uint64_t seed
)
    : timeline_(timeline),
      network_(network),
      pool_(pool),
      verdict_(verdict),
      random_(seed),
      roster_(pool) {}

void SimRegistry::heal() {
  options_.lost_chance = 0.0;
  options_.twice_chance = 0.0;
  options_.late_chance = 0.0;
}

// What operators do.

void SimRegistry::add(std::size_t host) {
  const std::string& url = network_.host(host).url;
  if (!roster_.add(url).ok()) return;  // it is an operator's already
  leases_.erase(url);
  banned_.erase(url);
  gone_.erase(url);
}

void SimRegistry::remove(std::size_t host) {
  const std::string& url = network_.host(host).url;
  if (!roster_.remove(url).ok()) return;  // it is not there
  leases_.erase(url);
  banned_.insert(url);
  gone_.insert(url);
}

// What workers say.

Nanoseconds SimRegistry::delay() {
  constexpr std::int64_t kMax = 5'000'000;
  return Nanoseconds{random_.between(50'000, kMax)};
}

void SimRegistry::in_process(std::size_t host, int start, Timeline::Task task) {
  const SimHost& there = network_.host(host);
  if (there.starts != start || there.worker == nullptr) return;
  network_.in_process(host, std::move(task));
}

void SimRegistry::on_start(std::size_t host) {
  if (!registering_.contains(host)) return;
  words_[host] = {.start = network_.host(host).starts};
  tell(host, words_[host].start);
}

void SimRegistry::tell(std::size_t host, int start) {
  in_process(host, start, [this, host, start] {
    if (words_[host].left) return;
    const std::uint64_t number = ++words_[host].number;
    send(host, [this, host, start, number] { hear(host, start, number); });
    timeline_.after(options_.timeout, [this, host, start, number] {
      on_told(host, start, number, /*taken=*/false);
    });
  });
}

// The router does, and answers.
void SimRegistry::hear(std::size_t host, int start, std::uint64_t number) {
  const SimHost& there = network_.host(host);
  const bool taken = renew(there.url);
  if (there.cut_off || random_.uniform() < options_.lost_chance) return;
  const Nanoseconds arrival = std::max(timeline_.now(), there.clogged_to) + delay();
  timeline_.at(arrival, [this, host, start, number, taken] {
    on_told(host, start, number, taken);
  });
}

void SimRegistry::on_told(std::size_t host, int start, std::uint64_t number, bool taken) {
  in_process(host, start, [this, host, start, number, taken] {
    Word& word = words_[host];
    if (word.left || word.number != number) return;
    ++word.number;  // it is answered
    timeline_.after(taken ? options_.interval : options_.retry, [this, host, start] {
      tell(host, start);
    });
  });
}

void SimRegistry::leave(std::size_t host) {
  if (!registering_.contains(host)) return;
  in_process(host, network_.host(host).starts, [this, host] {
    words_[host].left = true;
    send(host, [this, host] { give_up(network_.host(host).url); });
  });
}

void SimRegistry::send(std::size_t host, const Timeline::Task& task) {
  if (network_.host(host).cut_off || random_.uniform() < options_.lost_chance) return;
  carry(host, task);
  if (random_.uniform() < options_.twice_chance) carry(host, task);
}

void SimRegistry::carry(std::size_t host, const Timeline::Task& task) {
  const bool late = random_.uniform() < options_.late_chance;
  const Nanoseconds behind{late ? random_.between(0, options_.late_max.count()) : 0};
  const Nanoseconds clogged = network_.host(host).clogged_from;
  timeline_.at(std::max(timeline_.now(), clogged) + delay() + behind, task);
}

// What the router does with it.

bool SimRegistry::renew(const std::string& url) {
  const bool of_operator = pool_.table().find(url).has_value() && !leases_.contains(url);
  const auto renewed = roster_.renew(url, options_.lease, timeline_.now());
  if (renewed.ok() == banned_.contains(url)) {
    verdict_.violated(fmt::format("{} may{} register", url, renewed.ok() ? "" : " not"));
  }
  if (!renewed.ok() || of_operator) return renewed.ok();
  if (!pool_.table().find(url)) verdict_.violated(url + " has registered and is not there");
  if (gone_.erase(url) > 0) ++returns_;
  leases_[url] = timeline_.now() + options_.lease;
  return true;
}

void SimRegistry::give_up(const std::string& url) {
  roster_.give_up(url, timeline_.now());
  const auto at = leases_.find(url);
  if (at != leases_.end()) at->second = std::min(at->second, timeline_.now());
}

void SimRegistry::sweep() {
  timeline_.after(options_.sweep_interval, [this] { sweep(); });
  std::set<std::string> due;
  for (const auto& [url, until] : leases_) {
    if (until <= timeline_.now() && !answers(url)) due.insert(url);
  }
  for (const std::string& url : roster_.sweep(timeline_.now())) {
    if (!due.contains(url)) verdict_.violated(url + " is let go while its lease lasts");
  }
  for (const std::string& url : due) {
    if (pool_.table().find(url)) verdict_.violated(url + " is kept though its lease is over");
    leases_.erase(url);
    gone_.insert(url);
    ++lapses_;
  }
}

bool SimRegistry::answers(const std::string& url) const {
  const auto worker = pool_.table().find(url);
  if (!worker) return false;
  const router::WorkerState state = pool_.table().workers()[*worker].state;
  return state != router::WorkerState::Joining && state != router::WorkerState::Down;
}

void SimRegistry::check_sent(const std::string& url) {
  if (gone_.contains(url)) verdict_.violated("a request goes to " + url + ", which was let go");
}

}  // namespace pleiad::sim
