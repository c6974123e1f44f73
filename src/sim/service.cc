#include "sim/service.h"

#include <algorithm>
#include <utility>

#include <fmt/core.h>

namespace pleiad::sim {
namespace {

constexpr std::size_t kOpenMax = 48;
constexpr Nanoseconds kTick = std::chrono::milliseconds(100);

// What stands before the real one, where a test wants that.
template <typename Part>
std::unique_ptr<Part>
make_double(const std::function<std::unique_ptr<Part>(Part&)>& make, Part& real) {
  return make ? make(real) : nullptr;
}

template <typename Part>
Part& either(const std::unique_ptr<Part>& stand_in, Part& real) {
  return stand_in ? *stand_in : real;
}

}  // namespace

Service::Service(const ChaosSetting& setting, Options options)
    : setting_(setting),
      options_(std::move(options)),
      network_(timeline_, core_, options_.network_seed, setting.network),
      link_double_(make_double<router::WorkerLink>(options_.doubles.link, network_)),
      clients_(
          timeline_,
          core_,
          verdict_,
          {.open_max = kOpenMax,
           .wait_max = setting.core.wait_max,
           .deaths_max = setting.core.deaths_max,
           .sink_double = options_.doubles.sink}
      ),
      core_(timeline_, either<router::WorkerLink>(link_double_, network_), setting.core),
      pool_(core_, network_),
      pool_double_(make_double<router::WorkerPool>(options_.doubles.pool, pool_)),
      registry_(
          timeline_,
          network_,
          either<router::WorkerPool>(pool_double_, pool_),
          verdict_,
          options_.registry_seed
      ),
      gate_(timeline_, setting.rules.front()),
      gate_double_(make_double<api::AdmissionGate>(options_.doubles.gate, gate_)),
      ledger_(timeline_, verdict_, setting.rules.front()),
      sessions_(
          timeline_,
          either<api::AdmissionGate>(gate_double_, gate_),
          ledger_,
          {.submit = [this](api::GenerationRequest request
                     ) { return clients_.submit(std::move(request)); },
           .cancel = [this](api::RequestId id) { clients_.cancel(id); },
           .on_begun = options_.on_begun}
      ),
      audit_(
          {.core = core_,
           .admission = gate_.admission(),
           .network = network_,
           .sessions = sessions_,
           .clients = clients_,
           .ledger = ledger_},
          verdict_
      ) {
  listen();
}

void Service::listen() {
  network_.on_send = [this](const auto& worker, const auto& message, std::size_t under_way) {
    clients_.on_sent(message.id, under_way);
    registry_.check_sent(worker.url);
    if (message.request.prefill_from) registry_.check_sent(message.request.prefill_from->url);
  };
  network_.on_start = [this](std::size_t host) { registry_.on_start(host); };
  network_.on_poisoned = [this](api::RequestId id) { clients_.on_killed(id); };
  network_.on_untold = [this](api::RequestId id) { clients_.on_untold(id); };
}

void Service::start() {
  registry_.set_options(setting_.registry);
  if (!options_.words_go_astray) registry_.heal();
  for (std::size_t i = 0; i < setting_.hosts; ++i) {
    add_host(i);
  }
  registry_.start();
  tick();
}

void Service::add_host(std::size_t index) {
  api::Role role = api::Role::Both;
  if (setting_.prefill_hosts > 0) {
    role = index < setting_.prefill_hosts ? api::Role::Prefill : api::Role::Decode;
  }
  const std::size_t host = network_.add_host(
      fmt::format("http://worker{}", index),
      {.identity = {.version = "1", .model = "stub", .page_tokens = 64},
       .dp_ranks = setting_.dp_ranks,
       .scheduler = setting_.scheduler,
       .cost = setting_.cost,
       .role = role,
       .lease = setting_.lease,
       .defect = options_.defect}
  );
  const bool registers =
      std::ranges::find(setting_.registering, index) != setting_.registering.end();
  if (registers) registry_.registers(host);
  if (!registers) registry_.add(host);
  network_.start(host);
}

// As RoutedGenerator::tick.
void Service::tick() {
  core_.on_tick();
  timeline_.after(kTick, [this] { tick(); });
}

void Service::change_rules(std::size_t index) {
  ledger_.set_rules(setting_.rules[index]);
  gate_.set_rules(setting_.rules[index]);
}

void Service::check_now() {
  for (const SimClient* client : clients_.take_ended()) {
    sessions_.on_ended(client->id(), client->output_tokens());
  }
  audit_.check_now();
}

void Service::run_until(Nanoseconds time) {
  while (verdict_.good() && timeline_.now() < time && timeline_.step()) {
    check_now();
  }
}

void Service::run_until_idle(Nanoseconds deadline) {
  while (verdict_.good() && timeline_.now() < deadline && !audit_.idle()) {
    timeline_.step();
    check_now();
  }
}

void Service::check_end() {
  clients_.check_all_ended();
  audit_.check_idle();
}

}  // namespace pleiad::sim
