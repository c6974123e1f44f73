#include "tests/service/service_run.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include <fmt/core.h>

#include "apps/route_instance.h"
#include "base/check.h"

namespace pleiad::service {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr seconds kPatience{40};  // with one request, or with what is to be let go
constexpr seconds kReferencePatience{60};
constexpr int kDeathsMax = 2;  // workers that may be lost under one request
constexpr milliseconds kLook{5};
constexpr std::size_t kProbes = 2;  // questions that are asked again when all is well

// A trouble that is happening: the gate has moved already.
struct Happening {
  std::size_t trouble = 0;
  std::size_t worker = 0;
  int life = 0;  // of the worker
  std::size_t request = 0;
};

// Something to do at its time.
struct Due {
  Nanoseconds at{};
  std::function<void()> task;
};

class Service {
 public:
  Service(const Scenario& scenario, References& references, const ServiceOptions& options)
      : scenario_(scenario), options_(options), right_(references.ask(scenario)) {
    troubles_ = std::vector<TroubleState>(scenario.troubles.size());
    for (std::size_t i = 0; i < scenario.workers.size(); ++i) {
      WorkerSettings settings = scenario.workers[i];
      settings.broken = options.broken;
      workers_.push_back(std::make_unique<LiveWorker>(std::move(settings), watch_of(i)));
      workers_.back()->start();
    }
    frozen_.resize(workers_.size());
    start_router();
    client_ = std::make_unique<Client>(router_->url());
    client_->watch("/health");
  }

  ServiceReport run() {
    wait_until([this] { return ready(); }, "a worker is not ready");
    begin_ = clock_.now();
    for (std::size_t i = 0; i < scenario_.questions.size(); ++i) {
      due_.push_back({begin_ + scenario_.questions[i].at, [this, i] { ask(i); }});
    }
    live();
    heal();
    if (good()) judge_answers();
    if (good()) probe();
    if (good()) wait_nothing_held();
    count();
    return report_;
  }

 private:
  struct TroubleState {
    int seen = 0;  // times that its phase came up
    int happened = 0;
  };

  // Of the worker `index`.
  GateWatch watch_of(std::size_t index) {
    return {
        .number_of = [this](std::span<const TokenId> prompt) { return number_of(prompt); },
        .on_phase = [this, index](
                        Phase phase, std::size_t request
                    ) { return on_phase(index, phase, request); }};
  }

  void start_router() {
    apps::RouteSettings settings{.port = 0, .served_names = {"model"}};
    settings.text.model = scenario_.workers.front().model;
    settings.text.skip_tokenizer = true;
    settings.ignore_generation_config = true;
    settings.router.secret = kSecret;
    settings.router.core.policy.kind = scenario_.policy;
    settings.router.core.prefill_tokens_min = scenario_.prefill_tokens_min;
    settings.router.core.deaths_max = kDeathsMax;
    settings.router.core.table.misses_max = 2;
    settings.router.report_interval = milliseconds(10);
    settings.router.report_timeout = milliseconds(400);
    settings.router.tick_interval = milliseconds(10);
    for (const auto& worker : workers_) {
      (worker->settings().role == api::Role::Prefill ? settings.prefill_workers
                                                     : settings.decode_workers)
          .push_back(worker->url());
    }
    router_ = apps::RouteInstance::start(std::move(settings)).value();
  }

  [[nodiscard]] bool good() const { return report_.violation.empty(); }
  void violated(std::string what) {
    if (good()) report_.violation = std::move(what);
  }

  // A prompt of a request: it begins with the client's, all but the last token at least.
  std::optional<std::size_t> number_of(std::span<const TokenId> prompt) {
    if (over_.load()) return std::nullopt;
    for (std::size_t i = 0; i < scenario_.questions.size(); ++i) {
      const auto& own = scenario_.questions[i].prompt;
      const std::size_t least = own.size() - 1;
      if (prompt.size() >= least && std::equal(own.begin(), own.end() - 1, prompt.begin()))
        return i;
    }
    return std::nullopt;
  }

  // On threads of workers.
  GateMove on_phase(std::size_t worker, Phase phase, std::size_t request) {
    GateMove move = GateMove::Pass;
    const std::scoped_lock lock(mutex_);
    if (over_.load()) return move;
    for (std::size_t i = 0; i < troubles_.size(); ++i) {
      const Trouble& trouble = scenario_.troubles[i];
      TroubleState& state = troubles_[i];
      const bool meant =
          trouble.phase == phase && (!trouble.request || *trouble.request == request);
      if (!meant) continue;
      const int seen = state.seen++;
      if (seen != trouble.nth && !(trouble.always && seen > trouble.nth)) continue;
      ++state.happened;
      happening_.push_back(
          {.trouble = i, .worker = worker, .life = workers_[worker]->life(), .request = request}
      );
      if (trouble.action == Action::Kill) move = GateMove::Die;
      if (trouble.action == Action::Freeze && move == GateMove::Pass) move = GateMove::Shut;
    }
    if (!happening_.empty()) changed_.notify_all();
    return move;
  }

  void ask(std::size_t question) {
    const Question& asked = scenario_.questions[question];
    numbers_.resize(std::max(numbers_.size(), question + 1));
    numbers_[question] = client_->ask(asked.body, asked.stream);
  }

  [[nodiscard]] bool all_over() const {
    if (numbers_.size() < scenario_.questions.size()) return false;
    return std::ranges::all_of(numbers_, [this](const auto& number) {
      return number && client_->over(*number);
    });
  }

  // Until every request is over, and what was begun is ended.
  void live() {
    const Nanoseconds end = clock_.now() + options_.patience;
    while (!all_over() || !due_.empty()) {
      std::vector<Happening> happening;
      {
        std::unique_lock lock(mutex_);
        changed_.wait_for(lock, kLook, [this] { return !happening_.empty(); });
        happening.swap(happening_);
      }
      for (const Happening& one : happening)
        happen(one);
      do_what_is_due();
      if (clock_.now() > end) return violated("a request neither goes on nor ends");
    }
  }

  void do_what_is_due() {
    const Nanoseconds now = clock_.now();
    std::vector<Due> ready;
    std::erase_if(due_, [&](Due& one) {
      if (one.at > now) return false;
      ready.push_back(std::move(one));
      return true;
    });
    for (const Due& one : ready)
      one.task();
  }

  void happen(const Happening& happening) {
    const Trouble& trouble = scenario_.troubles[happening.trouble];
    LiveWorker& worker = *workers_[happening.worker];
    const bool there = worker.runs() && worker.life() == happening.life;
    if (!there && trouble.action != Action::Cancel) return;
    ++report_.happened[static_cast<std::size_t>(trouble.action)]
                      [static_cast<std::size_t>(trouble.phase)];
    switch (trouble.action) {
      case Action::Kill:
        if (trouble.always) ++killed_by_request_[happening.request];
        worker.kill();
        due_.push_back({clock_.now() + trouble.pause, [this, &worker] {
                          if (!over_.load() && !worker.runs()) worker.start();
                        }});
        return;
      case Action::Freeze:
        worker.freeze();
        ++frozen_[happening.worker];
        due_.push_back({clock_.now() + trouble.pause, [this, &worker, at = happening.worker] {
                          if (--frozen_[at] == 0 && worker.runs()) worker.thaw();
                        }});
        return;
      case Action::Cancel:
        if (numbers_.size() > happening.request && numbers_[happening.request])
          client_->cancel(*numbers_[happening.request]);
        return;
    }
  }

  // From here on nothing goes wrong any more.
  void heal() {
    std::vector<Happening> last;
    {
      const std::scoped_lock lock(mutex_);
      over_.store(true);
      last.swap(happening_);
    }
    for (const Happening& one : last)
      happen(one);
    due_.clear();
    for (const auto& worker : workers_) {
      if (!worker->runs()) worker->start();
      worker->thaw();
    }
    wait_until([this] { return ready(); }, "a worker is not ready again");
  }

  void judge_answers() {
    for (std::size_t i = 0; i < numbers_.size(); ++i) {
      const Answer answer = client_->answer(*numbers_[i]);
      ++report_.requests;
      std::string wrong;
      if (answer.cancelled) {
        ++report_.cancelled;
        wrong = difference_so_far(answer, right_[i]);
      } else if (answer.error.empty()) {
        ++report_.whole;
        wrong = difference(answer, right_[i]);
      } else {
        ++report_.failed;
        wrong = difference_so_far(answer, right_[i]);
        if (wrong.empty()) wrong = unjust(answer);
      }
      if (!wrong.empty()) violated(fmt::format("request {}: {}", i, wrong));
    }
    for (const auto& [request, killed] : killed_by_request_) {
      if (killed > kDeathsMax)
        violated(fmt::format("request {} kills {} workers", request, killed));
    }
  }

  // Whether it had the right to fail.
  std::string unjust(const Answer& answer) {
    int troubles = 0;
    for (std::size_t i = 0; i < troubles_.size(); ++i) {
      if (scenario_.troubles[i].action != Action::Cancel) troubles += troubles_[i].happened;
    }
    const bool lost = answer.error.find("workers were lost") != std::string::npos;
    if (lost && troubles >= kDeathsMax) return "";
    return fmt::format("fails after {} troubles: {}", troubles, answer.error);
  }

  void probe() {
    for (std::size_t i = 0; i < std::min(kProbes, scenario_.questions.size()); ++i) {
      const std::size_t number = client_->ask(scenario_.questions[i].body, /*stream=*/false);
      if (!client_->wait(number, options_.patience)) return violated("a probe does not end");
      const Answer answer = client_->answer(number);
      const std::string wrong = answer.error.empty() ? difference(answer, right_[i]) : answer.error;
      if (!wrong.empty()) return violated(fmt::format("probe {}: {}", i, wrong));
    }
  }

  void wait_nothing_held() {
    std::string held;
    const auto free = [&] {
      held = router_metric("pleiad_router_open_requests") == 0.0 ? "" : "the router has requests";
      for (std::size_t i = 0; i < workers_.size() && held.empty(); ++i) {
        const std::string its = workers_[i]->held();
        if (!its.empty()) held = fmt::format("worker {} holds {}", i, its);
      }
      return held.empty();
    };
    const Nanoseconds end = clock_.now() + options_.patience;
    while (!free()) {
      if (clock_.now() > end) return violated(held);
      pause();
    }
  }

  template <typename Condition>
  void wait_until(Condition condition, const char* otherwise) {
    const Nanoseconds end = clock_.now() + options_.patience;
    while (good() && !condition()) {
      if (clock_.now() > end) return violated(otherwise);
      pause();
    }
  }

  void pause() {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, kLook);
  }

  [[nodiscard]] std::string router_page(const std::string& path) const {
    const auto answer = net::http_fetch({.url = net::parse_url(router_->url() + path).value()});
    return answer.ok() ? answer->body : "";
  }

  [[nodiscard]] double router_metric(const std::string& name) const {
    const std::string text = router_page("/metrics");
    const std::size_t at = text.find("\n" + name + " ");
    if (at == std::string::npos) return -1.0;
    return std::strtod(text.c_str() + at + name.size() + 2, nullptr);
  }

  [[nodiscard]] bool ready() const {
    return router_metric("pleiad_router_ready_workers") == static_cast<double>(workers_.size());
  }

  void count() {
    const auto number = [this](const char* name) {
      return static_cast<std::uint64_t>(std::max(0.0, router_metric(name)));
    };
    report_.hand_overs = number("pleiad_router_hand_overs_total");
    report_.replays = number("pleiad_router_replays_total");
    report_.prefill_losses = number("pleiad_router_prefill_losses_total");
    const std::string sick = client_->sick();
    if (!sick.empty()) violated("the router's health: " + sick);
  }

  const Scenario& scenario_;
  const ServiceOptions options_;
  const std::vector<Answer> right_;
  SystemClock clock_;
  Nanoseconds begin_{};
  ServiceReport report_;
  std::atomic<bool> over_{false};  // nothing goes wrong any more
  std::vector<Due> due_;
  std::vector<std::optional<std::size_t>> numbers_;  // [questions], of client_
  std::map<std::size_t, int> killed_by_request_;
  std::mutex mutex_;  // guards the next two
  std::vector<TroubleState> troubles_;
  std::vector<Happening> happening_;
  std::condition_variable changed_;
  std::vector<int> frozen_;  // [workers], times that it is
  std::vector<std::unique_ptr<LiveWorker>> workers_;
  std::unique_ptr<apps::RouteInstance> router_;
  std::unique_ptr<Client> client_;
};

}  // namespace

std::vector<Answer> References::ask(const Scenario& scenario) {
  One& one = by_model_[scenario.model];
  if (!one.worker) {
    apps::ServeSettings settings{.port = 0, .served_names = {"model"}};
    settings.load.model = scenario.workers.front().model;
    settings.load.threads = 1;
    settings.load.kv_cache_bytes = std::size_t{64} << 20U;
    settings.ignore_generation_config = true;
    settings.text.skip_tokenizer = true;
    one.worker = apps::ServeInstance::start(std::move(settings)).value();
    one.client = std::make_unique<Client>(one.worker->url());
  }
  std::vector<std::size_t> numbers;
  for (const Question& question : scenario.questions)
    numbers.push_back(one.client->ask(question.body, /*stream=*/false));
  std::vector<Answer> out;
  for (const std::size_t number : numbers) {
    PLEIAD_CHECK(one.client->wait(number, kReferencePatience), "the reference does not answer");
    out.push_back(one.client->answer(number));
    PLEIAD_CHECK(out.back().error.empty(), out.back().error);
  }
  return out;
}

void ServiceReport::add(const ServiceReport& other) {
  requests += other.requests;
  whole += other.whole;
  failed += other.failed;
  cancelled += other.cancelled;
  hand_overs += other.hand_overs;
  replays += other.replays;
  prefill_losses += other.prefill_losses;
  for (std::size_t action = 0; action < kActions; ++action) {
    for (std::size_t phase = 0; phase < kPhases; ++phase)
      happened[action][phase] += other.happened[action][phase];
  }
}

ServiceReport
run_service(const Scenario& scenario, References& references, const ServiceOptions& options) {
  return Service(scenario, references, options).run();
}

}  // namespace pleiad::service
