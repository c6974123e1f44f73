#include "sim/chaos.h"

#include <cmath>
#include <utility>
#include <vector>

#include <fmt/core.h>

#include "base/random.h"
#include "sim/chaos_setting.h"
#include "sim/faults.h"
#include "sim/visitors.h"

namespace pleiad::sim {
namespace {

using std::chrono::seconds;

constexpr int kProbes = 3;  // requests after the healing
constexpr Nanoseconds kSettling = seconds(60);

// What happens to a service: who comes, what breaks, and what must be when all is whole again.
class Chaos {
 public:
  explicit Chaos(const ChaosOptions& options);
  ChaosReport run();

 private:
  Service::Options service_options();
  void arrange_requests();
  void arrange_faults();
  void arrange_rules();
  void arrive();
  void probe();
  void ask_what_is_left();
  void misbehave(std::uint64_t session, const std::vector<api::RequestId>& requests);
  void check_probes();
  ChaosReport report();
  std::string story_of(const ChaosReport& report);

  const ChaosOptions options_;
  Random random_;
  ChaosSetting setting_;
  Visitors visitors_;
  Service service_;
  Timeline& timeline_;
  Faults faults_;
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
      service_(setting_, service_options()),
      timeline_(service_.timeline()),
      faults_(
          {.timeline = timeline_,
           .core = service_.core(),
           .network = service_.network(),
           .registry = service_.registry()},
          random_.next()
      ) {}

Service::Options Chaos::service_options() {
  const std::uint64_t network_seed = random_.next();
  const std::uint64_t registry_seed = random_.next();
  return {
      .doubles = options_.doubles,
      .defect = options_.defect,
      .words_go_astray = options_.faults,
      .network_seed = network_seed,
      .registry_seed = registry_seed,
      .on_begun =
          [this](std::uint64_t session, const auto& requests) { misbehave(session, requests); },
  };
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
    timeline_.at(at, [this, i] { service_.change_rules(i); });
  }
}

void Chaos::arrive() {
  const std::uint64_t session = service_.sessions().arrive(visitors_.draw());
  if (!options_.faults || random_.below(10) != 0) return;
  const Nanoseconds patience{random_.between(0, 2'000'000'000)};
  timeline_.after(patience, [this, session] { service_.sessions().hang_up(session); });
}

void Chaos::probe() {
  probes_from_ = service_.clients().size();
  for (int i = 0; i < kProbes; ++i) {
    service_.sessions().arrive(
        {.arrival = {.key = kProbeClass, .priority_class = kProbeClass},
         .request = visitors_.draw_request()}
    );
  }
}

// Visits that want nothing: each key hears how its limits stand, and the ledger compares.
void Chaos::ask_what_is_left() {
  for (const router::KeyRules& key : setting_.rules.back().keys) {
    service_.sessions().arrive(
        {.arrival = {.key = key.name}, .request = {.prompt = {1}}, .choices = 0}
    );
  }
}

void Chaos::misbehave(std::uint64_t session, const std::vector<api::RequestId>& requests) {
  if (!options_.faults || requests.empty() || probes_from_ != SIZE_MAX) return;
  const std::uint64_t draw = random_.below(10);
  if (draw > 2) return;
  const Nanoseconds at{random_.between(0, 2'000'000'000)};
  timeline_.after(at, [this, session, id = requests.front(), early = draw == 0] {
    if (early) {
      service_.clients().finish_early(id);
    } else if (!service_.clients().has_ended(id)) {
      service_.sessions().hang_up(session);
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

// The service is whole again: what is asked is answered.
void Chaos::check_probes() {
  Clientele& clients = service_.clients();
  if (clients.size() < probes_from_ + kProbes) service_.verdict().violated("a probe was refused");
  clients.check_whole(probes_from_);
}

ChaosReport Chaos::run() {
  service_.start();
  arrange_requests();
  arrange_rules();
  if (options_.faults) arrange_faults();
  service_.run_until(setting_.horizon);
  faults_.heal();
  // A question from before may still go unanswered.
  service_.run_until(timeline_.now() + setting_.network.report_timeout);
  const Nanoseconds patience = setting_.network.silence_max + setting_.core.wait_max + kSettling;
  service_.run_until_idle(timeline_.now() + patience);
  if (service_.verdict().good()) service_.check_end();
  if (service_.verdict().good()) ask_what_is_left();
  if (service_.verdict().good()) {
    probe();
    service_.run_until_idle(timeline_.now() + patience);
  }
  if (service_.verdict().good()) service_.check_end();
  if (service_.verdict().good()) check_probes();
  return report();
}

ChaosReport Chaos::report() {
  ChaosReport report{
      .violation = service_.verdict().what(),
      .events = timeline_.steps(),
      .requests = service_.core().counts().requests,
      .whole = service_.clients().whole(),
      .failed = service_.core().counts().failed,
      .replays = service_.core().counts().replays,
      .faults = faults_.happened(),
      .hand_overs = service_.core().counts().hand_overs,
      .prefill_losses = service_.core().counts().prefill_losses,
      .visits = service_.sessions().counts().visits,
      .queued = service_.sessions().counts().waited,
      .refused = service_.sessions().counts().refused,
      .lapses = service_.registry().lapses(),
      .returns = service_.registry().returns(),
  };
  report.story = story_of(report);
  return report;
}

std::string Chaos::story_of(const ChaosReport& report) {
  return fmt::format(
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
}

}  // namespace

ChaosReport run_chaos(const ChaosOptions& options) {
  return Chaos(options).run();
}

}  // namespace pleiad::sim
