#include "sim/chaos.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>
#include <utility>
#include <vector>

#include <fmt/core.h>

#include "base/random.h"
#include "router/router_core.h"
#include "sim/client.h"
#include "sim/faults.h"
#include "sim/network.h"
#include "sim/stub_model.h"
#include "sim/timeline.h"

namespace pleiad::sim {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::int64_t kSequenceTokensMax = 512;
constexpr std::size_t kOpenMax = 48;
constexpr int kProbes = 3;  // requests after the healing
constexpr Nanoseconds kSettling = seconds(60);

// What a seed draws once.
struct Setting {
  std::size_t hosts = 1;
  std::size_t prefill_hosts = 0;  // of those, the first ones; then all others take prompts over
  Nanoseconds lease = seconds(5);
  std::size_t dp_ranks = 1;
  int requests = 10;
  Nanoseconds horizon = seconds(10);  // requests and faults come until then
  NetworkOptions network;
  router::RouterCoreOptions core;
  sched::SchedulerOptions scheduler;
  StepCost cost;
};

router::PolicyKind draw_policy(Random& random) {
  constexpr router::PolicyKind kKinds[] = {
      router::PolicyKind::CacheAware,
      router::PolicyKind::PowerOfTwo,
      router::PolicyKind::LeastTokens,
      router::PolicyKind::RoundRobin,
      router::PolicyKind::Random,
  };
  return kKinds[random.below(std::size(kKinds))];
}

// Prefill and decode apart, over a path that may be worse than any real one.
void draw_pairs(Random& random, Setting& s) {
  s.prefill_hosts = static_cast<std::size_t>(random.between(1, 3));
  s.hosts = s.prefill_hosts + static_cast<std::size_t>(random.between(1, 3));
  s.lease = milliseconds(random.between(2000, 10000));
  s.core.prefill_tokens_min = random.between(1, 200);
  s.network.prefill_silence_max = milliseconds(random.between(1500, 5000));
  if (random.below(3) != 0) return;
  s.network.record_twice_chance = random.below(2) == 0 ? 0.1 : 0.0;
  s.network.record_lost_chance = random.below(2) == 0 ? 0.05 : 0.0;
  s.network.record_strays_chance = random.below(2) == 0 ? 0.1 : 0.0;
}

Setting draw_setting(Random& random) {
  const auto ms = [&](std::int64_t low, std::int64_t high) {
    return milliseconds(random.between(low, high));
  };
  Setting s;
  s.hosts = static_cast<std::size_t>(random.between(1, 5));
  s.dp_ranks = static_cast<std::size_t>(random.between(1, 3));
  s.requests = static_cast<int>(random.between(5, 50));
  s.horizon = ms(2000, 12000);
  s.network.delay_max = Nanoseconds{random.between(100'000, 20'000'000)};
  s.network.resend_chance = random.below(4) == 0 ? 0.1 : 0.0;
  s.network.silence_max = ms(1000, 15000);
  s.network.report_interval = ms(50, 200);
  s.network.report_timeout = ms(300, 1000);
  s.core.policy.kind = draw_policy(random);
  s.core.table.misses_max = static_cast<int>(random.between(1, 3));
  s.core.wait_max = ms(2000, 10000);
  s.core.seed = random.next();
  s.scheduler = {
      .pages = random.between(9, 40),
      .running_max = random.between(1, 8),
      .waiting_max = random.between(1, 16),
      .step_tokens_max = random.between(16, 256),
      .chunk_tokens_max = random.between(8, 256),
      .logit_rows_max = 16,
      .sequence_tokens_max = kSequenceTokensMax,
  };
  s.cost.fixed = ms(1, 20);
  if (random.below(3) != 0) draw_pairs(random, s);
  return s;
}

class Chaos {
 public:
  explicit Chaos(const ChaosOptions& options);
  ChaosReport run();

 private:
  void add_hosts();
  void arrange_requests();
  void arrange_faults();
  api::GenerationRequest draw_request(bool probe);
  void submit(api::GenerationRequest request);
  void misbehave(api::RequestId id);
  void run_until(Nanoseconds time);
  bool run_until_idle(Nanoseconds deadline);
  [[nodiscard]] bool all_ready() const;
  [[nodiscard]] std::int64_t queue_max(const SimWorker& worker) const;
  void check_now();
  void check_end();
  void check_probes();
  void settle_ended();
  [[nodiscard]] ChaosReport report() const;

  const ChaosOptions options_;
  Random random_;
  Setting setting_;
  Timeline timeline_;
  Verdict verdict_;
  SimNetwork network_;
  std::unique_ptr<router::WorkerLink> link_double_;
  std::vector<std::unique_ptr<SimClient>> clients_;  // index + 1 is the id
  std::vector<std::unique_ptr<api::GenerationSink>> sink_doubles_;
  router::RouterCore core_;
  Faults faults_;
  std::vector<Nanoseconds> accepted_at_;                 // [clients]
  std::vector<int> attempts_;                            // [clients]
  std::vector<int> killed_;                              // [clients], workers by its prompt
  std::unordered_map<std::uint64_t, std::size_t> open_;  // clients that have not ended
  std::vector<std::vector<TokenId>> prefixes_;
  std::size_t probes_from_ = SIZE_MAX;  // clients from here on are probes
};

Chaos::Chaos(const ChaosOptions& options)
    : options_(options),
      random_(options.seed),
      setting_(draw_setting(random_)),
      network_(timeline_, core_, random_.next(), setting_.network),
      link_double_(options.link_double ? options.link_double(network_) : nullptr),
      core_(
          timeline_,
          link_double_ ? *link_double_ : static_cast<router::WorkerLink&>(network_),
          setting_.core
      ),
      faults_(timeline_, core_, network_, random_.next()) {
  network_.on_send = [this](api::RequestId id, std::size_t under_way) {
    ++attempts_[id.value() - 1];
    if (under_way > 1) {
      verdict_.violated(fmt::format("request {} is at two workers", id.value()));
    }
  };
  network_.on_poisoned = [this](api::RequestId id) {
    if (++killed_[id.value() - 1] > setting_.core.deaths_max) {
      verdict_.violated(fmt::format("request {} kills one worker after another", id.value()));
    }
  };
  // The router cannot count what nobody lived to tell.
  network_.on_untold = [this](api::RequestId id) { --killed_[id.value() - 1]; };
}

void Chaos::add_hosts() {
  for (std::size_t i = 0; i < setting_.hosts; ++i) {
    api::Role role = api::Role::Both;
    if (setting_.prefill_hosts > 0)
      role = i < setting_.prefill_hosts ? api::Role::Prefill : api::Role::Decode;
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
    network_.start(host);
    network_.watch(core_.add_worker(network_.host(host).url).value(), host);
  }
}

// Prompts that share prefixes, of one page or several.
api::GenerationRequest Chaos::draw_request(bool probe) {
  api::GenerationRequest request;
  request.prompt = prefixes_[random_.below(prefixes_.size())];
  for (std::uint64_t left = 1 + random_.below(100); left > 0; --left) {
    request.prompt.push_back(static_cast<TokenId>(1 + random_.below(kStubVocabulary - 1)));
  }
  request.max_tokens = static_cast<std::int32_t>(random_.between(1, 40));
  request.ignore_eos = random_.below(4) == 0;
  request.priority = static_cast<std::int32_t>(random_.below(2));
  if (random_.below(3) == 0) request.session = fmt::format("session {}", random_.below(3));
  if (random_.below(8) == 0) request.prompt_top_logprobs = 0;
  const bool poisoned = options_.faults && !probe && random_.below(40) == 0;
  if (poisoned) request.prompt[0] = kPoison;
  return request;
}

void Chaos::arrange_requests() {
  for (int i = 0; i < 4; ++i) {
    std::vector<TokenId> prefix(random_.below(250));
    for (TokenId& token : prefix) {
      token = static_cast<TokenId>(1 + random_.below(kStubVocabulary - 1));
    }
    prefixes_.push_back(std::move(prefix));
  }
  for (int i = 0; i < setting_.requests; ++i) {
    const Nanoseconds at{random_.between(0, setting_.horizon.count())};
    timeline_.at(at, [this] { submit(draw_request(/*probe=*/false)); });
  }
}

// As RoutedGenerator::submit.
void Chaos::submit(api::GenerationRequest request) {
  if (!core_.summary().not_ready.empty() || core_.open_requests() >= kOpenMax) return;
  const api::RequestId id(clients_.size() + 1);
  clients_.push_back(std::make_unique<SimClient>(id, request, verdict_));
  api::GenerationSink* sink = clients_.back().get();
  if (options_.sink_double) {
    sink_doubles_.push_back(options_.sink_double(*sink));
    sink = sink_doubles_.back().get();
  }
  accepted_at_.push_back(timeline_.now());
  attempts_.push_back(0);
  killed_.push_back(0);
  open_.emplace(id.value(), clients_.size() - 1);
  core_.submit(id, std::move(request), *sink);
  if (options_.faults && probes_from_ == SIZE_MAX) misbehave(id);
}

void Chaos::misbehave(api::RequestId id) {
  const std::uint64_t draw = random_.below(10);
  if (draw > 2) return;
  const Nanoseconds at{random_.between(0, 2'000'000'000)};
  timeline_.after(at, [this, id, early = draw == 0] {
    SimClient& client = *clients_[id.value() - 1];
    if (client.finish()) return;
    (early ? client.early : client.cancelled) = true;
    early ? core_.finish_early(id) : core_.cancel(id);
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

void Chaos::settle_ended() {
  std::erase_if(open_, [&](const auto& one) {
    SimClient& client = *clients_[one.second];
    if (!client.finish()) return false;
    client.judge_end({
        .attempts = attempts_[one.second],
        .waited = timeline_.now() - accepted_at_[one.second],
        .wait_allowed = setting_.core.wait_max,
    });
    return true;
  });
}

// Every open request waits or is at one worker; every ended one has told its client.
void Chaos::check_now() {
  settle_ended();
  if (open_.size() != core_.open_requests()) {
    verdict_.violated(fmt::format(
        "{} clients wait for the end of {} requests", open_.size(), core_.open_requests()
    ));
  }
  for (std::size_t host = 0; host < network_.hosts(); ++host) {
    const SimWorker* worker = network_.host(host).worker.get();
    if (worker != nullptr && worker->queued() > queue_max(*worker)) {
      verdict_.violated(fmt::format("{} queues {}", network_.host(host).url, worker->queued()));
    }
  }
  std::int64_t placed = 0;
  const router::LoadLedger& loads = core_.table().loads();
  for (router::UnitIndex unit = 0; unit < loads.units(); ++unit) {
    // Who computes a prompt for another does not own the request.
    const router::Worker& worker = core_.table().workers()[core_.table().place(unit).worker];
    if (worker.report.role != api::Role::Prefill) placed += loads.load(unit).requests;
  }
  const auto owned = static_cast<std::int64_t>(core_.open_requests() - core_.waiting_requests());
  if (placed != owned) {
    verdict_.violated(fmt::format("{} requests are placed, {} are not waiting", placed, owned));
  }
}

void Chaos::run_until(Nanoseconds time) {
  while (verdict_.good() && timeline_.now() < time && timeline_.step()) {
    check_now();
  }
}

// What was preempted waits too.
std::int64_t Chaos::queue_max(const SimWorker& worker) const {
  return static_cast<std::int64_t>(worker.dp_ranks()) *
         (setting_.scheduler.waiting_max + setting_.scheduler.running_max);
}

bool Chaos::all_ready() const {
  for (std::size_t host = 0; host < network_.hosts(); ++host) {
    if (network_.host(host).worker == nullptr) return false;
  }
  return core_.summary().ready_workers == static_cast<std::int64_t>(setting_.hosts);
}

bool Chaos::run_until_idle(Nanoseconds deadline) {
  while (verdict_.good() && timeline_.now() < deadline) {
    if (open_.empty() && network_.idle() && all_ready()) return true;
    timeline_.step();
    check_now();
  }
  return false;
}

void Chaos::check_end() {
  for (const auto& [id, client] : open_) {
    verdict_.violated(fmt::format("request {} never ended", id));
  }
  if (!all_ready()) {
    verdict_.violated("a worker is not ready again");
    return;
  }
  if (!network_.idle()) verdict_.violated("a worker or a connection is left with work of nobody");
  for (std::size_t host = 0; host < network_.hosts(); ++host) {
    if (network_.host(host).worker->pages_held() != 0) {
      verdict_.violated(fmt::format("{} holds pages for nobody", network_.host(host).url));
    }
  }
  const router::LoadLedger& loads = core_.table().loads();
  for (router::UnitIndex unit = 0; unit < loads.units(); ++unit) {
    const router::UnitLoad& load = loads.load(unit);
    if (load.held != 0 || load.prefill != 0) {
      verdict_.violated(fmt::format("unit {} is thought to hold {} tokens", unit, load.held));
    }
  }
}

// The service is whole again: what is asked is answered.
void Chaos::check_probes() {
  if (clients_.size() < probes_from_ + kProbes) verdict_.violated("a probe was refused");
  for (std::size_t i = probes_from_; i < clients_.size(); ++i) {
    const auto& finish = clients_[i]->finish();
    const bool whole = finish && (finish->reason == api::FinishReason::Stop ||
                                  finish->reason == api::FinishReason::Length);
    if (!whole) {
      verdict_.violated(
          fmt::format("probe {} failed: {}", i + 1, finish ? finish->message : "no end")
      );
    }
  }
}

ChaosReport Chaos::run() {
  add_hosts();
  arrange_requests();
  if (options_.faults) arrange_faults();
  run_until(setting_.horizon);
  faults_.heal();
  const Nanoseconds patience = setting_.network.silence_max + setting_.core.wait_max + kSettling;
  run_until_idle(timeline_.now() + patience);
  if (verdict_.good()) check_end();
  if (verdict_.good()) {
    probes_from_ = clients_.size();
    for (int i = 0; i < kProbes; ++i) {
      submit(draw_request(/*probe=*/true));
    }
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
      .failed = core_.counts().failed,
      .replays = core_.counts().replays,
      .faults = faults_.happened(),
      .hand_overs = core_.counts().hand_overs,
      .prefill_losses = core_.counts().prefill_losses,
  };
  for (const auto& client : clients_) {
    const auto& finish = client->finish();
    const bool whole = finish && (finish->reason == api::FinishReason::Stop ||
                                  finish->reason == api::FinishReason::Length);
    if (whole) ++report.whole;
  }
  report.story = fmt::format(
      "seed {}: {} workers of {} ranks, {} of them for prompts, {}, {} requests, {} hand-overs, "
      "{} faults, {} replays, {} prefills lost, {} failed, at {:.3f} s",
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
      to_seconds(timeline_.now())
  );
  return report;
}

}  // namespace

ChaosReport run_chaos(const ChaosOptions& options) {
  return Chaos(options).run();
}

}  // namespace pleiad::sim
