#include "sim/chaos.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include <fmt/core.h>

#include "base/random.h"
#include "router/router_core.h"
#include "sim/audit.h"
#include "sim/chaos_setting.h"
#include "sim/client.h"
#include "sim/clientele.h"
#include "sim/faults.h"
#include "sim/gate.h"
#include "sim/gate_ledger.h"
#include "sim/network.h"
#include "sim/registry.h"
#include "sim/session.h"
#include "sim/timeline.h"
#include "sim/visitors.h"

namespace pleiad::sim {
namespace {

using std::chrono::seconds;

constexpr std::size_t kOpenMax = 48;
constexpr int kProbes = 3;  // requests after the healing
constexpr Nanoseconds kSettling = seconds(60);
constexpr Nanoseconds kTick = std::chrono::milliseconds(100);

class Chaos {
 public:
  explicit Chaos(const ChaosOptions& options);
  ChaosReport run();

 private:
  void add_hosts();
  void tick();
  void arrange_requests();
  void arrange_faults();
  void arrange_rules();
  void arrive();
  void probe();
  void ask_what_is_left();
  void misbehave(std::uint64_t session, const std::vector<api::RequestId>& requests);
  void run_until(Nanoseconds time);
  bool run_until_idle(Nanoseconds deadline);
  void check_now();
  void check_end();
  void check_probes();
  [[nodiscard]] ChaosReport report() const;

  const ChaosOptions options_;
  Random random_;
  ChaosSetting setting_;
  Visitors visitors_;
  Timeline timeline_;
  Verdict verdict_;
  SimNetwork network_;
  std::unique_ptr<router::WorkerLink> link_double_;
  Clientele clients_;
  router::RouterCore core_;
  SimPool pool_;
  std::unique_ptr<router::WorkerPool> pool_double_;
  SimRegistry registry_;
  Faults faults_;
  SimGate gate_;
  std::unique_ptr<api::AdmissionGate> gate_double_;
  GateLedger ledger_;
  Sessions sessions_;
  Audit audit_;
  std::size_t probes_from_ = SIZE_MAX;  // clients from here on are probes
};

Chaos::Chaos(const ChaosOptions& options)
    : options_(options),
      random_(options.seed),
      setting_(draw_setting(random_)),
      visitors_(
          random_,
          {.gate_open = setting_.gate_open, .poison = options.faults, .until = setting_.horizon}
      ),
      network_(timeline_, core_, random_.next(), setting_.network),
      link_double_(options.link_double ? options.link_double(network_) : nullptr),
      clients_(
          timeline_,
          core_,
          verdict_,
          {.open_max = kOpenMax,
           .wait_max = setting_.core.wait_max,
           .deaths_max = setting_.core.deaths_max,
           .sink_double = options.sink_double}
      ),
      core_(
          timeline_,
          link_double_ ? *link_double_ : static_cast<router::WorkerLink&>(network_),
          setting_.core
      ),
      pool_(core_, network_),
      pool_double_(options.pool_double ? options.pool_double(pool_) : nullptr),
      registry_(
          timeline_,
          network_,
          pool_double_ ? *pool_double_ : static_cast<router::WorkerPool&>(pool_),
          verdict_,
          random_.next()
      ),
      faults_(
          {.timeline = timeline_, .core = core_, .network = network_, .registry = registry_},
          random_.next()
      ),
      gate_(timeline_, setting_.rules.front()),
      gate_double_(options.gate_double ? options.gate_double(gate_) : nullptr),
      ledger_(timeline_, verdict_, setting_.rules.front()),
      sessions_(
          timeline_,
          gate_double_ ? *gate_double_ : static_cast<api::AdmissionGate&>(gate_),
          ledger_,
          {.submit = [this](api::GenerationRequest request
                     ) { return clients_.submit(std::move(request)); },
           .cancel = [this](api::RequestId id) { clients_.cancel(id); },
           .on_begun =
               [this](std::uint64_t session, const auto& requests) {
                 misbehave(session, requests);
               }}
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
  network_.on_send = [this](const auto& worker, const auto& message, std::size_t under_way) {
    clients_.on_sent(message.id, under_way);
    registry_.check_sent(worker.url);
    if (message.request.prefill_from) registry_.check_sent(message.request.prefill_from->url);
  };
  network_.on_start = [this](std::size_t host) { registry_.on_start(host); };
  network_.on_poisoned = [this](api::RequestId id) { clients_.on_killed(id); };
  network_.on_untold = [this](api::RequestId id) { clients_.on_untold(id); };
}

void Chaos::add_hosts() {
  registry_.set_options(setting_.registry);
  if (!options_.faults) registry_.heal();
  for (std::size_t i = 0; i < setting_.hosts; ++i) {
    api::Role role = api::Role::Both;
    if (setting_.prefill_hosts > 0) {
      role = i < setting_.prefill_hosts ? api::Role::Prefill : api::Role::Decode;
    }
    const std::size_t host = network_.add_host(
        fmt::format("http://worker{}", i),
        {.identity = {.version = "1", .model = "stub", .page_tokens = 64},
         .dp_ranks = setting_.dp_ranks,
         .scheduler = setting_.scheduler,
         .cost = setting_.cost,
         .role = role,
         .lease = setting_.lease,
         .defect = options_.defect}
    );
    const bool registers = std::ranges::find(setting_.registering, i) != setting_.registering.end();
    if (registers) registry_.registers(host);
    if (!registers) registry_.add(host);
    network_.start(host);
  }
  registry_.start();
}

// As RoutedGenerator::tick.
void Chaos::tick() {
  core_.on_tick();
  timeline_.after(kTick, [this] { tick(); });
}

void Chaos::arrange_requests() {
  for (int i = 0; i < setting_.requests; ++i) {
    const Nanoseconds at{random_.between(0, setting_.horizon.count())};
    timeline_.at(at, [this] { arrive(); });
  }
}

void Chaos::arrange_rules() {
  for (std::size_t i = 1; i < setting_.rules.size(); ++i) {
    const Nanoseconds at{random_.between(0, setting_.horizon.count())};
    timeline_.at(at, [this, i] {
      ledger_.set_rules(setting_.rules[i]);
      gate_.set_rules(setting_.rules[i]);
    });
  }
}

void Chaos::arrive() {
  const std::uint64_t session = sessions_.arrive(visitors_.draw());
  if (!options_.faults || random_.below(10) != 0) return;
  const Nanoseconds patience{random_.between(0, 2'000'000'000)};
  timeline_.after(patience, [this, session] { sessions_.hang_up(session); });
}

void Chaos::probe() {
  probes_from_ = clients_.size();
  for (int i = 0; i < kProbes; ++i) {
    sessions_.arrive(
        {.arrival = {.key = kProbeClass, .priority_class = kProbeClass},
         .request = visitors_.draw_request()}
    );
  }
}

// Visits that want nothing: each key hears how its limits stand, and the ledger compares.
void Chaos::ask_what_is_left() {
  for (const router::KeyRules& key : setting_.rules.back().keys) {
    sessions_.arrive({.arrival = {.key = key.name}, .request = {.prompt = {1}}, .choices = 0});
  }
}

void Chaos::misbehave(std::uint64_t session, const std::vector<api::RequestId>& requests) {
  if (!options_.faults || requests.empty() || probes_from_ != SIZE_MAX) return;
  const std::uint64_t draw = random_.below(10);
  if (draw > 2) return;
  const Nanoseconds at{random_.between(0, 2'000'000'000)};
  timeline_.after(at, [this, session, id = requests.front(), early = draw == 0] {
    if (early) {
      clients_.finish_early(id);
    } else if (!clients_.has_ended(id)) {
      sessions_.hang_up(session);
    }
  });
}

void Chaos::arrange_faults() {
  // Some runs are wild, some nearly quiet.
  const double mean = 0.05 * std::pow(60.0, random_.uniform());
  double at = 0.0;
  while (true) {
    at += -std::log(1.0 - random_.uniform()) * mean;
    const Nanoseconds time{static_cast<std::int64_t>(at * 1e9)};
    if (time > setting_.horizon) return;
    timeline_.at(time, [this] { faults_.happen(); });
  }
}

void Chaos::check_now() {
  for (const SimClient* client : clients_.take_ended()) {
    sessions_.on_ended(client->id(), client->output_tokens());
  }
  audit_.check_now();
}

void Chaos::run_until(Nanoseconds time) {
  while (verdict_.good() && timeline_.now() < time && timeline_.step()) {
    check_now();
  }
}

bool Chaos::run_until_idle(Nanoseconds deadline) {
  while (verdict_.good() && timeline_.now() < deadline) {
    if (audit_.idle()) return true;
    timeline_.step();
    check_now();
  }
  return false;
}

void Chaos::check_end() {
  clients_.check_all_ended();
  audit_.check_idle();
}

// The service is whole again: what is asked is answered.
void Chaos::check_probes() {
  if (clients_.size() < probes_from_ + kProbes) verdict_.violated("a probe was refused");
  clients_.check_whole(probes_from_);
}

ChaosReport Chaos::run() {
  add_hosts();
  tick();
  arrange_requests();
  arrange_rules();
  if (options_.faults) arrange_faults();
  run_until(setting_.horizon);
  faults_.heal();
  // A question from before may still go unanswered.
  run_until(timeline_.now() + setting_.network.report_timeout);
  const Nanoseconds patience = setting_.network.silence_max + setting_.core.wait_max + kSettling;
  run_until_idle(timeline_.now() + patience);
  if (verdict_.good()) check_end();
  if (verdict_.good()) ask_what_is_left();
  if (verdict_.good()) {
    probe();
    run_until_idle(timeline_.now() + patience);
  }
  if (verdict_.good()) check_end();
  if (verdict_.good()) check_probes();
  return report();
}

ChaosReport Chaos::report() const {
  ChaosReport report{
      .violation = verdict_.what(),
      .events = timeline_.steps(),
      .requests = core_.counts().requests,
      .whole = clients_.whole(),
      .failed = core_.counts().failed,
      .replays = core_.counts().replays,
      .faults = faults_.happened(),
      .hand_overs = core_.counts().hand_overs,
      .prefill_losses = core_.counts().prefill_losses,
      .visits = sessions_.counts().visits,
      .queued = sessions_.counts().waited,
      .refused = sessions_.counts().refused,
      .lapses = registry_.lapses(),
      .returns = registry_.returns(),
  };
  report.story = fmt::format(
      "seed {}: {} workers of {} ranks, {} of them for prompts, {}, {} requests, {} hand-overs, "
      "{} faults, {} replays, {} prefills lost, {} failed, {} visits, {} queued, {} refused, {} "
      "leases over, at {:.3f} s",
      options_.seed,
      setting_.hosts,
      setting_.dp_ranks,
      setting_.prefill_hosts,
      router::to_string(setting_.core.policy.kind),
      report.requests,
      report.hand_overs,
      report.faults,
      report.replays,
      report.prefill_losses,
      report.failed,
      report.visits,
      report.queued,
      report.refused,
      report.lapses,
      to_seconds(timeline_.now())
  );
  return report;
}

}  // namespace

ChaosReport run_chaos(const ChaosOptions& options) {
  return Chaos(options).run();
}

}  // namespace pleiad::sim
