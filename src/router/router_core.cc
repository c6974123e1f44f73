#include "router/router_core.h"

#include <algorithm>
#include <utility>

#include <fmt/core.h>

#include "base/check.h"
#include "base/log.h"

namespace pleiad::router {
namespace {

constexpr std::size_t kNamedMax = 4;  // workers that a message names

// A worker that is up takes nothing for its role, or because it said so since it last reported.
std::string_view state_of(const Worker& worker) {
  if (worker.state != WorkerState::Ready) return to_string(worker.state);
  return worker.report.role == api::Role::Prefill ? "for prompts only" : "refusing requests";
}

// "no worker is ready: http://a is draining, http://b is down (connection refused)".
std::string why_not_ready(std::span<const Worker> workers) {
  std::string out;
  std::size_t here = 0;
  for (const Worker& worker : workers) {
    if (worker.state == WorkerState::Removed || ++here > kNamedMax) continue;
    out += fmt::format("{} {} is {}", out.empty() ? ":" : ",", worker.url, state_of(worker));
    if (!worker.reason.empty()) out += fmt::format(" ({})", worker.reason);
  }
  if (here == 0) return "there is no worker";
  if (here > kNamedMax) out += fmt::format(", and {} more are not", here - kNamedMax);
  return "no worker is ready" + out;
}

}  // namespace

RouterCore::RouterCore(const Clock& clock, WorkerLink& link, const RouterCoreOptions& options)
    : clock_(clock),
      link_(link),
      options_(options),
      table_(options.table),
      policy_(options.policy, options.seed),
      prefill_policy_(options.policy, options.seed + 1),
      prefill_tokens_min_(options.prefill_tokens_min) {}

RouterCore::~RouterCore() {
  for (const auto& [id, request] : requests_) {
    request->finish({.reason = api::FinishReason::Cancelled});
  }
}

Result<WorkerIndex>
RouterCore::add_worker(const std::string& url, std::optional<api::Role> wanted) {
  return table_.add(url, wanted);
}

Result<void> RouterCore::drain_worker(std::string_view url, bool draining) {
  const auto worker = table_.find(url);
  if (!worker) return not_found("there is no worker {}", url);
  table_.set_draining(*worker, draining);
  serve_waiting();
  return {};
}

Result<WorkerIndex> RouterCore::remove_worker(std::string_view url) {
  const auto worker = table_.find(url);
  if (!worker) return not_found("there is no worker {}", url);
  table_.remove(*worker);
  move_away_from(*worker, "the worker was removed");
  return *worker;
}

void RouterCore::set_policy(const PolicyOptions& policy, std::int64_t prefill_tokens_min) {
  policy_.set_options(policy);
  prefill_policy_.set_options(policy);
  prefill_tokens_min_ = prefill_tokens_min;
}

void RouterCore::submit(
    api::RequestId id,
    api::GenerationRequest request,
    api::GenerationSink& sink
) {
  auto routed = std::make_unique<RoutedRequest>(id, std::move(request), sink);
  RoutedRequest& placed = *routed;
  const bool is_new = requests_.emplace(id, std::move(routed)).second;
  PLEIAD_CHECK(is_new, "ids of requests are not used twice");
  ++counts_.requests;
  dispatch(placed);
}

RoutedRequest* RouterCore::find(api::RequestId id) {
  const auto at = requests_.find(id);
  return at == requests_.end() ? nullptr : at->second.get();
}

RoutedRequest* RouterCore::find(AttemptId attempt) {
  const auto at = attempts_.find(attempt);
  return at == attempts_.end() ? nullptr : at->second;
}

// To the unit that the policy chooses, or to the end of the queue.
void RouterCore::dispatch(RoutedRequest& request) {
  const auto choice = choose(request);
  if (choice) {
    begin(request, *choice);
  } else {
    enqueue(request);
  }
}

std::optional<Choice> RouterCore::choose(const RoutedRequest& request) {
  const auto eligible = table_.eligible();
  eligible_.assign(eligible.begin(), eligible.end());
  for (const UnitIndex unit : request.avoided) {
    eligible_[unit] = 0;
  }
  overlap_.resize(eligible_.size());
  table_.prefixes().match(request.keys(), overlap_);
  return policy_.choose({
      .loads = &table_.loads(),
      .eligible = eligible_,
      .overlap = overlap_,
      .prompt_tokens = request.prompt_tokens(),
      .session = request.rest().request.session,
  });
}

void RouterCore::enqueue(RoutedRequest& request) {
  request.avoided.clear();
  if (!request.waits_since) request.waits_since = clock_.now();
  waiting_.push_back(request.id());
}

void RouterCore::begin(RoutedRequest& request, const Choice& choice) {
  if (request.waits_since) request.waited += clock_.now() - *request.waits_since;
  request.waits_since.reset();
  const std::int64_t prompt = request.prompt_tokens();
  const UnitPlace& place = table_.place(choice.unit);
  const AttemptId attempt(next_attempt_++);
  RoutedRequest::Attempt begun{
      .id = attempt,
      .unit = choice.unit,
      .cost =
          {.prefill = std::max<std::int64_t>(prompt - choice.cached_tokens, 0),
           .held = prompt + request.rest().request.max_tokens},
      .reports = table_.workers()[place.worker].reports,
      .prefill = choose_prefill(request, choice),
  };
  if (begun.prefill) {
    begun.cost.prefill = 1;
    ++counts_.hand_overs;
    table_.loads().begin(begun.prefill->unit, begun.prefill->cost);
    table_.prefixes().add(begun.prefill->unit, request.keys());
  }
  table_.loads().begin(choice.unit, begun.cost);
  table_.prefixes().add(choice.unit, request.keys());
  request.begin_attempt(std::move(begun), place.dp_rank);
  attempts_.emplace(attempt, &request);
  ++counts_.choices[static_cast<std::size_t>(choice.reason)];
  counts_.prompt_tokens += static_cast<std::uint64_t>(prompt);
  counts_.cached_tokens += static_cast<std::uint64_t>(std::min(choice.cached_tokens, prompt));
  request.tell_place(name_of(*request.attempt));
  link_.send(attempt, table_.workers()[place.worker], request.rest());
}

// "http://d;dp_rank=0", and behind that who computes the prompt, where that is another.
std::string RouterCore::name_of(const RoutedRequest::Attempt& attempt) const {
  const UnitPlace& place = table_.place(attempt.unit);
  std::string out = fmt::format("{};dp_rank={}", table_.workers()[place.worker].url, place.dp_rank);
  if (attempt.prefill) {
    const api::PrefillFrom& from = attempt.prefill->from;
    out += fmt::format(";prefill={};prefill_dp_rank={}", from.url, from.dp_rank.value_or(0));
  }
  return out;
}

// Who computes the prompt, when the chosen unit takes prompts over and it is worth the way.
std::optional<RoutedRequest::Prefill>
RouterCore::choose_prefill(const RoutedRequest& request, const Choice& choice) {
  const Worker& decode = table_.workers()[table_.place(choice.unit).worker];
  const std::int64_t prompt = request.prompt_tokens();
  const bool scored = request.rest().request.prompt_top_logprobs.has_value();
  const std::size_t losses = request.prefill_avoided.size();
  if (decode.report.role != api::Role::Decode || scored || losses >= options_.prefill_losses_max ||
      prompt - choice.cached_tokens < prefill_tokens_min_) {
    return std::nullopt;
  }
  const auto eligible = table_.prefill_eligible();
  eligible_.assign(eligible.begin(), eligible.end());
  // All ranks of a worker that failed may go with it, and one loss is not to count twice.
  for (const UnitIndex avoided : request.prefill_avoided) {
    for (UnitIndex unit = 0; unit < eligible_.size(); ++unit) {
      if (table_.place(unit).worker == table_.place(avoided).worker) eligible_[unit] = 0;
    }
  }
  // overlap_ is still of this prompt.
  const auto chosen = prefill_policy_.choose({
      .loads = &table_.loads(),
      .eligible = eligible_,
      .overlap = overlap_,
      .prompt_tokens = prompt,
  });
  if (!chosen) return std::nullopt;
  const UnitPlace& place = table_.place(chosen->unit);
  return RoutedRequest::Prefill{
      .unit = chosen->unit,
      .cost =
          {.prefill = std::max<std::int64_t>(prompt - chosen->cached_tokens, 0), .held = prompt},
      .from =
          {.url = table_.workers()[place.worker].url,
           .dp_rank = place.dp_rank,
           .attempt = static_cast<std::uint32_t>(losses)},
      .reports = table_.workers()[place.worker].reports,
  };
}

// The prompt is with the unit that goes on with it, or wanted no more.
void RouterCore::end_prefill(RoutedRequest::Attempt& attempt) {
  if (!attempt.prefill) return;
  table_.loads().end(attempt.prefill->unit, attempt.prefill->cost, /*prefilled=*/false);
  attempt.prefill.reset();
}

// The unit that was to go on with the prompt is well: it is asked again, with another to compute
// it.
void RouterCore::prefill_lost(RoutedRequest& request, std::string_view why) {
  if (end_when_complete_or_deadly(request)) return;
  request.prefill_avoided.push_back(request.attempt->prefill->unit);
  PLEIAD_LOG(Warning, "request {} lost its prefill: {}", request.id().value(), why);
  ++counts_.prefill_losses;
  end_attempt(request);
  dispatch(request);
}

void RouterCore::on_connected(AttemptId attempt) {
  RoutedRequest* request = find(attempt);
  if (request != nullptr) request->attempt->connected = true;
}

void RouterCore::on_prompt_token(AttemptId attempt, const api::TokenEvent& event) {
  RoutedRequest* request = find(attempt);
  if (request != nullptr) request->on_prompt_token(event);
}

void RouterCore::on_token(AttemptId attempt, const api::TokenEvent& event) {
  RoutedRequest* request = find(attempt);
  if (request == nullptr) return;
  const bool prefilled = request->attempt->prefilled;
  const auto taken = request->on_token(event);
  if (!taken.ok()) {
    worker_lost(*request, taken.error().message);
  } else if (!prefilled) {
    table_.loads().prefilled(request->attempt->unit, request->attempt->cost);
    end_prefill(*request->attempt);
  }
}

void RouterCore::on_finish(AttemptId attempt, const api::FinishEvent& event) {
  RoutedRequest* request = find(attempt);
  if (request == nullptr) return;
  switch (event.reason) {
    case api::FinishReason::Stop:
    case api::FinishReason::Length:
    case api::FinishReason::Error:
      finish(*request, event);
      return;
    case api::FinishReason::Cancelled:
      // Nobody here asked for that: the worker is going.
      try_again(*request);
      return;
    case api::FinishReason::Lost:
      if (event.prefill_lost && request->attempt->prefill) {
        if (event.prefill_broken) ++request->deaths;
        prefill_lost(*request, event.message);
        return;
      }
      ++request->deaths;
      try_again(*request);
      return;
  }
}

void RouterCore::on_refused(AttemptId attempt, const Error& why) {
  RoutedRequest* request = find(attempt);
  if (request == nullptr) return;
  if (why.kind == ErrorKind::Exhausted || why.kind == ErrorKind::Unavailable) {
    table_.full(request->attempt->unit);
    try_again(*request);
  } else {
    finish(*request, api::FinishReason::Error, why.message);
  }
}

void RouterCore::on_broken(AttemptId attempt, std::string_view why) {
  RoutedRequest* request = find(attempt);
  if (request != nullptr) worker_lost(*request, why);
}

// The worker does not answer any more: others will be asked, until it reports again.
void RouterCore::worker_lost(RoutedRequest& request, std::string_view why) {
  const WorkerIndex worker = table_.place(request.attempt->unit).worker;
  table_.lost(worker, why);
  if (request.attempt->connected) ++request.deaths;
  PLEIAD_LOG(
      Warning,
      "worker {} is lost under request {}: {}",
      table_.workers()[worker].url,
      request.id().value(),
      why
  );
  try_again(request);
}

// Whether there is nothing left to try, and it was ended.
bool RouterCore::end_when_complete_or_deadly(RoutedRequest& request) {
  if (request.early) {
    finish(request, api::FinishReason::Stop);
    return true;
  }
  if (request.complete()) {
    finish(request, api::FinishReason::Length);
    return true;
  }
  if (request.deaths >= options_.deaths_max) {
    finish(
        request,
        {.reason = api::FinishReason::Error,
         .message =
             fmt::format("{} workers were lost while they answered this request", request.deaths),
         .for_client = true}
    );
    return true;
  }
  return false;
}

void RouterCore::try_again(RoutedRequest& request) {
  if (end_when_complete_or_deadly(request)) return;
  request.avoided.push_back(request.attempt->unit);
  end_attempt(request);
  ++counts_.replays;
  dispatch(request);
}

void RouterCore::end_attempt(RoutedRequest& request) {
  if (!request.attempt) return;
  end_prefill(*request.attempt);
  const RoutedRequest::Attempt attempt = *request.attempt;
  table_.loads().end(attempt.unit, attempt.cost, attempt.prefilled);
  attempts_.erase(attempt.id);
  request.attempt.reset();
  link_.hang_up(attempt.id);
}

void RouterCore::finish(RoutedRequest& request, api::FinishReason reason, std::string message) {
  finish(request, api::FinishEvent{.reason = reason, .message = std::move(message)});
}

void RouterCore::finish(RoutedRequest& request, const api::FinishEvent& event) {
  const bool failed =
      event.reason == api::FinishReason::Error || event.reason == api::FinishReason::Lost;
  if (failed) ++counts_.failed;
  if (request.waits_since) std::erase(waiting_, request.id());
  end_attempt(request);
  request.finish(event);
  requests_.erase(request.id());
}

void RouterCore::cancel(api::RequestId id) {
  RoutedRequest* request = find(id);
  if (request != nullptr) finish(*request, api::FinishReason::Cancelled);
}

// A worker that works at it is told, so that it counts the request as one that succeeded.
void RouterCore::finish_early(api::RequestId id) {
  RoutedRequest* request = find(id);
  if (request == nullptr) return;
  request->early = true;
  if (request->attempt && request->attempt->remote) {
    const WorkerIndex worker = table_.place(request->attempt->unit).worker;
    link_.finish(request->attempt->id, table_.workers()[worker], *request->attempt->remote);
  } else {
    finish(*request, api::FinishReason::Stop);
  }
}

void RouterCore::on_report(WorkerIndex worker, Result<api::WorkerReport> report) {
  const WorkerState before = table_.workers()[worker].state;
  if (report.ok()) {
    // A machine that went without a word leaves connections that only look open. What was sent
    // since was refused: it named the start before.
    const std::string& instance = table_.workers()[worker].report.instance;
    const bool restarted = !instance.empty() && instance != report->instance;
    if (restarted) move_to_next_start(worker);
    table_.reported(worker, std::move(*report));
  } else {
    table_.missed(worker, report.error().message);
  }
  const Worker& now = table_.workers()[worker];
  if (now.state != before) {
    PLEIAD_LOG(
        Info,
        "worker {} is {}{}{}",
        now.url,
        to_string(now.state),
        now.reason.empty() ? "" : ": ",
        now.reason
    );
  }
  if (now.state == WorkerState::Down) move_away_from(worker, now.reason);
  serve_waiting();
}

// What was sent since the last report may have met the next start, which refuses it: its worker is
// not counted as lost. A prompt that was ordered since may be computed by the next start; whoever
// ordered it knows, and says so if it is not.
void RouterCore::move_to_next_start(WorkerIndex worker) {
  for (auto& [attempt, request] : attempts_) {
    const bool there = table_.place(request->attempt->unit).worker == worker;
    const bool unsure = request->attempt->reports == table_.workers()[worker].reports;
    if (there && unsure) request->attempt->connected = false;
  }
  move_away_from(worker, "the worker was started again", table_.workers()[worker].reports);
}

// A worker that is silent may still hold connections open.
void RouterCore::move_away_from(
    WorkerIndex worker,
    std::string_view why,
    std::optional<std::uint64_t> reports
) {
  const std::string reason(why);  // the worker's own may change
  std::vector<AttemptId> there;
  std::vector<AttemptId> prefilled_there;
  for (const auto& [attempt, request] : attempts_) {
    const auto& prefill = request->attempt->prefill;
    if (table_.place(request->attempt->unit).worker == worker) there.push_back(attempt);
    const bool computed_there = prefill && table_.place(prefill->unit).worker == worker;
    if (computed_there && prefill->reports != reports) prefilled_there.push_back(attempt);
  }
  std::ranges::sort(there);
  std::ranges::sort(prefilled_there);
  for (const AttemptId attempt : there) {
    on_broken(attempt, reason);
  }
  const bool removed = table_.workers()[worker].state == WorkerState::Removed;
  for (const AttemptId attempt : prefilled_there) {
    RoutedRequest* request = find(attempt);
    if (request == nullptr) continue;
    if (request->attempt->connected && !removed) ++request->deaths;
    prefill_lost(*request, reason);
  }
}

void RouterCore::on_tick() {
  serve_waiting();
}

bool RouterCore::waited_too_long(const RoutedRequest& request) const {
  return request.waited + (clock_.now() - *request.waits_since) > options_.wait_max;
}

void RouterCore::serve_waiting() {
  const bool any_eligible = table_.any_eligible();
  for (std::size_t count = waiting_.size(); count > 0; --count) {
    RoutedRequest& request = *find(waiting_.front());
    waiting_.pop_front();
    if (waited_too_long(request)) {
      finish(request, api::FinishReason::Lost, "no worker had room in time");
    } else if (any_eligible) {
      dispatch(request);
    } else {
      waiting_.push_back(request.id());
    }
  }
}

RouterSummary RouterCore::summary() const {
  RouterSummary sum{
      .status = {.accepting = table_.any_eligible()},
      .limits = table_.limits(),
  };
  for (const Worker& worker : table_.workers()) {
    if (worker.state == WorkerState::Removed) continue;
    if (worker.state == WorkerState::Ready) ++sum.ready_workers;
    for (const api::GeneratorStatus& rank : worker.report.ranks) {
      sum.status.running += rank.running;
      sum.status.waiting += rank.waiting;
      sum.status.pages_total += rank.pages_total;
      sum.status.pages_held += rank.pages_held;
      sum.status.pages_cached += rank.pages_cached;
    }
  }
  for (UnitIndex unit = 0; unit < table_.loads().units(); ++unit) {
    sum.status.tokens_outstanding += table_.loads().load(unit).tokens();
  }
  sum.status.waiting += static_cast<std::int64_t>(waiting_.size());
  if (!sum.status.accepting) sum.not_ready = why_not_ready(table_.workers());
  return sum;
}

}  // namespace pleiad::router
