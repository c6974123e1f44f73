#include "sim/network.h"

#include <algorithm>
#include <utility>

#include <fmt/core.h>

#include "base/check.h"

namespace pleiad::sim {
namespace {

constexpr Nanoseconds kRestart = std::chrono::milliseconds(300);  // of a poisoned process

}  // namespace

SimNetwork::SimNetwork(
    Timeline& timeline,
    router::RouterCore& core,
    std::uint64_t seed,
    const NetworkOptions& options
)
    : timeline_(timeline), core_(core), random_(seed), options_(options) {}

Nanoseconds SimNetwork::delay() {
  return Nanoseconds{random_.between(options_.delay_min.count(), options_.delay_max.count())};
}

std::size_t SimNetwork::add_host(std::string url, const SimWorker::Options& process) {
  hosts_.push_back(std::make_unique<Process>(*this, hosts_.size()));
  SimHost& host = *hosts_.back()->host;
  host.url = std::move(url);
  host.process = process;
  return hosts_.size() - 1;
}

std::size_t SimNetwork::host_of(std::string_view url) const {
  const auto at = std::ranges::find_if(hosts_, [url](const auto& process) {
    return process->host->url == url;
  });
  PLEIAD_CHECK(at != hosts_.end(), "the router knows workers of this network only");
  return static_cast<std::size_t>(at - hosts_.begin());
}

bool SimNetwork::reachable(std::size_t host) const {
  return !hosts_[host]->host->cut_off;
}

bool SimNetwork::router_has(const Connection& connection) const {
  const auto at = connections_.find(connection.attempt);
  return at != connections_.end() && at->second.get() == &connection;
}

// Streams.

void SimNetwork::send(
    router::AttemptId attempt,
    const router::Worker& worker,
    const api::SubmitMessage& message
) {
  auto connection = std::make_shared<Connection>();  // owners: as ConnectionPtr says
  connection->attempt = attempt;
  connection->request = message.id;
  connection->host = host_of(worker.url);
  connection->instance = worker.report.instance;
  connection->heard = timeline_.now();
  connections_[attempt] = connection;
  const std::size_t under_way = ++under_way_[message.id];
  if (on_send) on_send(worker, message, under_way);
  connect(connection, message.request);
}

// There and back, then the request itself.
void SimNetwork::connect(const ConnectionPtr& connection, api::GenerationRequest request) {
  const Nanoseconds there = delay();
  timeline_.after(there + delay(), [this, connection, request = std::move(request)] {
    if (!router_has(*connection)) return;
    const Process& process = *hosts_[connection->host];
    const bool clogged = process.host->clogged_to > timeline_.now();
    if (process.host->cut_off || clogged) {
      timeline_.after(options_.connect_timeout, [this, connection] {
        if (router_has(*connection)) core_.on_broken(connection->attempt, "no connection in time");
      });
      return;
    }
    if (process.host->worker == nullptr) {
      core_.on_broken(connection->attempt, "connection refused");
      return;
    }
    connection->start = process.host->starts;
    core_.on_connected(connection->attempt);
    watch_silence(connection);
    stay_alive(connection);
    const bool twice = random_.uniform() < options_.resend_chance;
    to_worker(connection, [this, connection, request] { arrive(connection, request); });
    if (twice) resend(connection, request);
  });
}

// The worker has the request of a connection that closes before a byte of its answer.
void SimNetwork::resend(const ConnectionPtr& connection, api::GenerationRequest request) {
  auto again = std::make_shared<Connection>(*connection);  // owners: as ConnectionPtr says
  connections_[connection->attempt] = again;
  connection->replaced = true;
  to_worker(connection, [this, connection] {
    if (hosts_[connection->host]->host->worker != nullptr) {
      hosts_[connection->host]->host->worker->hang_up(connection->stream);
    }
  });
  connect(again, std::move(request));
}

void SimNetwork::arrive(const ConnectionPtr& connection, const api::GenerationRequest& request) {
  connection->stream = StreamId(next_stream_++);
  streams_[connection->stream] = connection;
  SimWorker& worker = *hosts_[connection->host]->host->worker;
  const auto taken = worker.instance() == connection->instance
                         ? worker.submit(connection->stream, request)
                         : Result<void>(unavailable("the worker was started again"));
  if (taken.ok()) return;
  streams_.erase(connection->stream);
  to_router(connection, [this, attempt = connection->attempt, why = taken.error()] {
    core_.on_refused(attempt, why);
  });
}

void SimNetwork::hang_up(router::AttemptId attempt) {
  const auto at = connections_.find(attempt);
  PLEIAD_CHECK(at != connections_.end(), "an attempt is hung up once");
  const ConnectionPtr connection = at->second;
  connections_.erase(at);
  const auto under_way = under_way_.find(connection->request);
  if (--under_way->second == 0) under_way_.erase(under_way);
  if (connection->start == 0) return;  // it never stood
  const SimHost& there = *hosts_[connection->host]->host;
  const bool gone = there.worker == nullptr || there.starts != connection->start;
  if (connection->killed && !connection->told && on_untold) {
    const bool removed = !core_.table().find(hosts_[*connection->killed]->host->url);
    if (connection->finished || gone || removed) on_untold(connection->request);
  }
  to_worker(connection, [this, connection] {
    SimWorker* worker = hosts_[connection->host]->host->worker.get();
    if (worker != nullptr) worker->hang_up(connection->stream);
  });
}

// A connection of its own, so it may arrive at a later process.
void SimNetwork::finish(
    router::AttemptId attempt,
    const router::Worker& worker,
    api::RequestId remote
) {
  const std::size_t host = host_of(worker.url);
  timeline_.after(delay() * 3, [this, attempt, host, remote, instance = worker.report.instance] {
    if (!connections_.contains(attempt)) return;
    if (!reachable(host) || hosts_[host]->host->worker == nullptr) {
      core_.on_broken(attempt, "no connection");
      return;
    }
    in_process(host, [this, attempt, host, remote, instance] {
      SimWorker& process = *hosts_[host]->host->worker;
      if (process.instance() == instance) {
        process.finish_early(remote);
      } else {
        core_.on_broken(attempt, "the worker was started again");
      }
    });
  });
}

void SimNetwork::in_process(std::size_t host, Timeline::Task task) {
  Process& process = *hosts_[host];
  if (process.host->worker == nullptr) return;
  if (process.host->worker->frozen()) {
    process.inbox.push_back(std::move(task));
  } else {
    task();
  }
}

void SimNetwork::to_worker(const ConnectionPtr& connection, Timeline::Task task) {
  const Nanoseconds clogged = hosts_[connection->host]->host->clogged_to;
  connection->sent_last =
      std::max({connection->sent_last, timeline_.now() + delay(), clogged + delay()});
  timeline_.at(connection->sent_last, [this, connection, task = std::move(task)]() mutable {
    const Process& process = *hosts_[connection->host];
    if (connection->silent || process.host->cut_off) return;
    if (process.host->starts != connection->start || process.host->worker == nullptr) {
      reset(connection, "connection reset");
      return;
    }
    in_process(connection->host, std::move(task));
  });
}

void SimNetwork::to_router(const ConnectionPtr& connection, Timeline::Task task) {
  if (connection->broken) return;
  const Nanoseconds clogged = hosts_[connection->host]->host->clogged_from;
  connection->received_last =
      std::max({connection->received_last, timeline_.now() + delay(), clogged + delay()});
  timeline_.at(connection->received_last, [this, connection, task = std::move(task)] {
    const bool heard = router_has(*connection) && !connection->silent && !connection->closed &&
                       reachable(connection->host);
    if (!heard) return;
    connection->heard = timeline_.now();
    task();
  });
}

void SimNetwork::to_router(StreamId stream, const std::function<void(router::AttemptId)>& task) {
  const auto at = streams_.find(stream);
  if (at == streams_.end()) return;
  to_router(at->second, [task, attempt = at->second->attempt] { task(attempt); });
}

// Nothing sent back arrives after that, not even what was on its way.
void SimNetwork::reset(const ConnectionPtr& connection, std::string_view why) {
  if (connection->silent) return;
  timeline_.after(delay(), [this, connection, why = std::string(why)] {
    if (connection->closed || !reachable(connection->host)) return;
    connection->closed = true;
    if (router_has(*connection)) core_.on_broken(connection->attempt, why);
  });
}

void SimNetwork::watch_silence(const ConnectionPtr& connection) {
  timeline_.at(connection->heard + options_.silence_max, [this, connection] {
    if (!router_has(*connection)) return;
    if (timeline_.now() - connection->heard < options_.silence_max) {
      watch_silence(connection);
    } else {
      core_.on_broken(connection->attempt, "silent for too long");
    }
  });
}

// While the worker has the request.
void SimNetwork::stay_alive(const ConnectionPtr& connection) {
  timeline_.after(options_.alive_interval, [this, connection] {
    const SimHost& there = *hosts_[connection->host]->host;
    const bool open = router_has(*connection) && !connection->closed &&
                      there.starts == connection->start && there.worker != nullptr;
    if (!open) return;
    in_process(connection->host, [this, connection] { to_router(connection, [] {}); });
    stay_alive(connection);
  });
}

void SimNetwork::Process::on_prompt_token(StreamId stream, const api::TokenEvent& event) {
  network_.to_router(stream, [this, event](router::AttemptId attempt) {
    network_.core_.on_prompt_token(attempt, event);
  });
}

void SimNetwork::Process::on_token(StreamId stream, const api::TokenEvent& event) {
  network_.to_router(stream, [this, event](router::AttemptId attempt) {
    network_.core_.on_token(attempt, event);
  });
}

void SimNetwork::Process::on_finish(StreamId stream, const api::FinishEvent& event) {
  const auto at = network_.streams_.find(stream);
  if (at != network_.streams_.end()) {
    network_.to_router(at->second, [this, event, connection = at->second] {
      connection->finished = true;
      connection->told = event.prefill_broken;
      network_.core_.on_finish(connection->attempt, event);
    });
  }
  network_.streams_.erase(stream);
  network_.end_answer(stream);
}

void SimNetwork::Process::on_poisoned(StreamId stream) {
  // By an order that nobody waits for any more it dies too, and nobody can know of what.
  const auto own = network_.streams_.find(stream);
  const bool wanted =
      own != network_.streams_.end() ? own->second->end_is_heard() : network_.wants_keys(stream);
  network_.note_killed(stream);
  if (network_.on_poisoned && wanted) network_.on_poisoned(network_.request_of(stream));
  network_.timeline_.after(Nanoseconds{0}, [this, start = host->starts] {
    if (host->starts == start) network_.kill(index_);
  });
  network_.timeline_.after(kRestart, [this] {
    if (host->worker == nullptr) network_.start(index_);
  });
}

bool SimNetwork::idle() const {
  return connections_.empty() && transfers_.empty() &&
         std::ranges::all_of(hosts_, [](const auto& process) {
           const SimWorker* worker = process->host->worker.get();
           return worker == nullptr || worker->open_requests() == 0;
         });
}

// Processes and machines.

void SimNetwork::start(std::size_t index) {
  SimHost& host = this->host(index);
  PLEIAD_CHECK(host.worker == nullptr, "one process at a time");
  ++host.starts;
  host.process.instance = fmt::format("{}#{}", host.url, host.starts);
  host.cut_off = false;
  host.worker = std::make_unique<SimWorker>(timeline_, *hosts_[index], host.process);
  if (on_start) on_start(index);
}

void SimNetwork::kill(std::size_t index) {
  SimHost& host = this->host(index);
  if (host.worker == nullptr) return;
  std::vector<ConnectionPtr> there;
  for (const auto& [attempt, connection] : connections_) {
    if (connection->host == index && connection->start == host.starts) there.push_back(connection);
  }
  std::ranges::sort(there, {}, [](const ConnectionPtr& one) { return one->attempt; });
  std::erase_if(streams_, [&](const auto& one) { return one.second->host == index; });
  hosts_[index]->inbox.clear();
  host.worker.reset();
  end_transfers(index);
  for (const ConnectionPtr& connection : there) {
    reset(connection, "connection reset");
  }
}

void SimNetwork::lose_power(std::size_t index) {
  for (const auto& [attempt, connection] : connections_) {
    if (connection->host == index) connection->silent = true;
  }
  for (const TransferPtr& transfer : transfers_) {
    if (transfer->from == index || transfer->to == index) transfer->silent = true;
  }
  kill(index);
  host(index).cut_off = true;
}

void SimNetwork::go_on(std::size_t index) {
  SimWorker* worker = host(index).worker.get();
  if (worker == nullptr || !worker->frozen()) return;
  worker->go_on();
  for (const Timeline::Task& task : std::exchange(hosts_[index]->inbox, {})) {
    if (host(index).worker.get() == worker) task();
  }
}

SimNetwork::ConnectionPtr SimNetwork::draw(std::size_t host) {
  std::vector<ConnectionPtr> there;
  for (const auto& [attempt, connection] : connections_) {
    const bool stands = connection->start != 0 && !connection->silent && !connection->closed;
    if (connection->host == host && stands) there.push_back(connection);
  }
  if (there.empty()) return nullptr;
  std::ranges::sort(there, {}, [](const ConnectionPtr& one) { return one->attempt; });
  return there[random_.below(there.size())];
}

bool SimNetwork::break_one(std::size_t host) {
  const ConnectionPtr connection = draw(host);
  if (connection == nullptr) return false;
  connection->broken = true;
  reset(connection, "connection reset by the network");
  in_process(host, [this, connection] {
    hosts_[connection->host]->host->worker->hang_up(connection->stream);
  });
  return true;
}

bool SimNetwork::silence_one(std::size_t host) {
  const ConnectionPtr connection = draw(host);
  if (connection == nullptr) return false;
  connection->silent = true;
  return true;
}

// Reports.

void SimNetwork::watch(router::WorkerIndex worker, std::size_t host) {
  watched_[worker] = {.host = host};
  ask(worker);
}

void SimNetwork::forget(router::WorkerIndex worker) {
  watched_.erase(worker);
}

void SimNetwork::ask(router::WorkerIndex worker) {
  const auto at = watched_.find(worker);
  if (at == watched_.end()) return;
  const std::uint64_t question = ++at->second.question;
  const SimHost& host = *hosts_[at->second.host]->host;
  timeline_.after(options_.report_timeout, [this, worker, question] {
    report(worker, question, error(ErrorKind::Timeout, "no report in time"));
  });
  const Nanoseconds arrival = std::max(timeline_.now(), host.clogged_to) + delay();
  timeline_.at(arrival, [this, worker, question] { answer(worker, question); });
}

void SimNetwork::answer(router::WorkerIndex worker, std::uint64_t question) {
  const auto at = watched_.find(worker);
  if (at == watched_.end() || at->second.question != question) return;
  const std::size_t index = at->second.host;
  if (!reachable(index)) return;
  if (host(index).worker == nullptr) {
    report(worker, question, unavailable("connection refused"));
    return;
  }
  in_process(index, [this, worker, question, index] {
    const Nanoseconds arrival = std::max(timeline_.now(), host(index).clogged_from) + delay();
    timeline_.at(arrival, [this, worker, question, told = host(index).worker->report()] {
      report(worker, question, told);
    });
  });
}

void SimNetwork::report(
    router::WorkerIndex worker,
    std::uint64_t question,
    const Result<api::WorkerReport>& report
) {
  const auto at = watched_.find(worker);
  if (at == watched_.end() || at->second.question != question) return;
  ++at->second.question;  // answered
  timeline_.after(options_.report_interval, [this, worker, question] {
    const auto still = watched_.find(worker);
    if (still != watched_.end() && still->second.question == question + 1) ask(worker);
  });
  core_.on_report(worker, report);
}

}  // namespace pleiad::sim
