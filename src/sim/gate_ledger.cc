#include "sim/gate_ledger.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include <fmt/core.h>

namespace pleiad::sim {
namespace {

// Of tokens or requests: what sums of doubles leave.
constexpr double kTolerance = 1e-3;

std::int64_t places_of(const api::Arrival& arrival) {
  return arrival.prompt_tokens + arrival.output_tokens_max;
}

bool may_use(const router::KeyRules& key, const std::string& name) {
  return key.classes.empty() || std::ranges::find(key.classes, name) != key.classes.end();
}

}  // namespace

GateLedger::GateLedger(const Clock& clock, Verdict& verdict, router::AdmissionRules rules)
    : clock_(clock), verdict_(verdict) {
  set_rules(std::move(rules));
}

void GateLedger::violated(std::uint64_t number, std::string_view what) {
  verdict_.violated(fmt::format("visit {} at the gate {}", number, what));
}

const router::KeyRules& GateLedger::rules_of(const std::string& key) const {
  const auto at = std::ranges::find(rules_.keys, key, &router::KeyRules::name);
  return at == rules_.keys.end() ? rules_.other_keys : *at;
}

const router::ClassRules* GateLedger::find_class(std::string_view name) const {
  const auto at = std::ranges::find(rules_.classes, name, &router::ClassRules::name);
  return at == rules_.classes.end() ? nullptr : &*at;
}

// The least urgent that is at least as urgent as asked for, or else the most urgent one.
std::string GateLedger::class_of_priority(const router::KeyRules& key, int priority) const {
  std::vector<std::pair<int, const router::ClassRules*>> usable;  // by how well they fit
  for (const router::ClassRules& line : rules_.classes) {
    if (!line.priority || !may_use(key, line.name)) continue;
    constexpr int kTooLittle = 1000;
    const int late = *line.priority - priority;
    usable.emplace_back(late <= 0 ? -late : kTooLittle + late, &line);
  }
  if (usable.empty()) return class_of({.key = key.name});
  return std::ranges::min_element(usable, {}, &std::pair<int, const router::ClassRules*>::first)
      ->second->name;
}

std::string GateLedger::class_of(const api::Arrival& arrival) const {
  const router::KeyRules& key = rules_of(arrival.key);
  if (!arrival.priority_class.empty()) {
    const bool fine =
        find_class(arrival.priority_class) != nullptr && may_use(key, arrival.priority_class);
    return fine ? arrival.priority_class : "";
  }
  if (arrival.priority) return class_of_priority(key, *arrival.priority);
  const bool has_usual = !key.classes.empty() && find_class(key.classes.front()) != nullptr;
  return has_usual ? key.classes.front() : rules_.classes.front().name;
}

// Of what it may ask for; without a bound, what is assumed, which by itself is never too much.
double GateLedger::cost_of(const api::Arrival& arrival) const {
  if (arrival.output_bounded) return static_cast<double>(places_of(arrival));
  const std::int64_t assumed =
      arrival.prompt_tokens + std::min(arrival.output_tokens_max, rules_.assumed_output_tokens);
  const std::int64_t bound = rules_of(arrival.key).tokens_per_minute.value_or(assumed);
  return static_cast<double>(std::max(arrival.prompt_tokens, std::min(assumed, bound)));
}

double& GateLedger::used(Use& use, std::optional<std::int64_t> limit) const {
  const double minutes = to_seconds(clock_.now() - use.at) / 60.0;
  use.amount -= minutes * static_cast<double>(limit.value_or(0));
  if (!limit || use.amount < 0.0) use.amount = 0.0;
  use.at = clock_.now();
  return use.amount;
}

void GateLedger::set_rules(router::AdmissionRules rules) {
  for (auto& [name, key] : keys_) {
    used(key.requests, rules_of(name).requests_per_minute);
    used(key.tokens, rules_of(name).tokens_per_minute);
  }
  rules_ = std::move(rules);
  for (auto& [number, visit] : visits_) {
    const router::KeyRules& key = rules_of(visit.arrival.key);
    // A limit that is not there knows nothing of what was taken.
    if (!key.requests_per_minute) visit.request_taken = false;
    if (!key.tokens_per_minute) visit.tokens_taken = 0.0;
    if (!visit.running && find_class(visit.in) == nullptr) {
      visit.in = class_of({.key = visit.arrival.key});
    }
  }
  waiting_max_.clear();
  for (const router::ClassRules& line : rules_.classes) {
    waiting_max_[line.name] = std::max(line.queue_max, waiting_in(line.name));
  }
}

void GateLedger::enters(std::uint64_t number, const api::Arrival& arrival) {
  const router::KeyRules& rules = rules_of(arrival.key);
  Key& key = keys_[arrival.key];
  Visit visit{.arrival = arrival, .in = class_of(arrival), .since = clock_.now()};
  if (!visit.in.empty()) {
    const Nanoseconds wait_max = find_class(visit.in)->wait_max;
    visit.deadline = clock_.now() + std::min(arrival.patience.value_or(wait_max), wait_max);
    double& requests = used(key.requests, rules.requests_per_minute);
    double& tokens = used(key.tokens, rules.tokens_per_minute);
    visit.request_taken = rules.requests_per_minute.has_value();
    visit.tokens_taken = rules.tokens_per_minute ? cost_of(arrival) : 0.0;
    requests += visit.request_taken ? 1.0 : 0.0;
    tokens += visit.tokens_taken;
    visit.requests_used = requests;
    visit.tokens_used = tokens;
  }
  visits_.emplace(number, std::move(visit));
  entering_ = number;
}

void GateLedger::has_entered(std::uint64_t number) {
  const auto at = visits_.find(number);
  if (at != visits_.end() && !at->second.running) check_admitted(number);
  if (at != visits_.end() && waiting_in(at->second.in) > waiting_max_[at->second.in]) {
    violated(number, "makes its line longer than it may be");
  }
  entering_.reset();
}

// To its line, or past it.
void GateLedger::check_admitted(std::uint64_t number) {
  const Visit& visit = visits_.at(number);
  const router::KeyRules& rules = rules_of(visit.arrival.key);
  if (visit.in.empty()) violated(number, "is let in without a class");
  const auto over = [](double use, std::optional<std::int64_t> limit) {
    return limit && use > static_cast<double>(*limit) + kTolerance;
  };
  if (over(visit.requests_used, rules.requests_per_minute)) {
    violated(number, "is let in over its key's requests per minute");
  }
  if (over(visit.tokens_used, rules.tokens_per_minute)) {
    violated(number, "is let in over its key's tokens per minute");
  }
}

void GateLedger::told(std::uint64_t number, const api::AdmissionVerdict& verdict) {
  const auto at = visits_.find(number);
  if (at == visits_.end() || at->second.running) {
    violated(number, "is told twice, or after it left");
    return;
  }
  const std::string key = at->second.arrival.key;
  // What others do meanwhile may be told later than it happens.
  const bool alone = visits_.size() == 1 && entering_ == number;
  const auto* grant = std::get_if<api::AdmissionGrant>(&verdict);
  if (grant != nullptr) {
    granted(number, *grant);
  } else {
    refused(number, std::get<api::AdmissionRefusal>(verdict));
  }
  if (alone) {
    check_rates(
        key, grant != nullptr ? grant->rates : std::get<api::AdmissionRefusal>(verdict).rates
    );
  }
}

void GateLedger::granted(std::uint64_t number, const api::AdmissionGrant& grant) {
  Visit& visit = visits_.at(number);
  if (entering_ == number) check_admitted(number);
  if (visit.in.empty()) return;
  if (grant.priority_class != visit.in || grant.priority != find_class(visit.in)->priority) {
    violated(number, "is granted another class, " + grant.priority_class);
  }
  if (clock_.now() > visit.deadline) violated(number, "starts after its deadline");
  for (const auto& [other, earlier] : visits_) {
    if (other >= number) break;
    const bool same = earlier.in == visit.in && earlier.arrival.key == visit.arrival.key;
    if (same && !earlier.running) violated(number, "overtakes one of its key");
  }
  visit.running = true;
  reserved_ += places_of(visit.arrival);
  ++running_;
  const std::size_t of_key = ++keys_[visit.arrival.key].running;
  if (running_ > rules_.concurrent_max) violated(number, "is one more than may run");
  if (of_key > rules_of(visit.arrival.key).concurrent_max.value_or(of_key)) {
    violated(number, "is one more than its key may run");
  }
  if (running_ > 1 && reserved_ > rules_.tokens_max.value_or(reserved_)) {
    violated(number, "takes more places in the caches than there are");
  }
}

void GateLedger::give_back(Visit& visit, double tokens) {
  const router::KeyRules& rules = rules_of(visit.arrival.key);
  double& used_tokens = used(keys_[visit.arrival.key].tokens, rules.tokens_per_minute);
  if (visit.tokens_taken > 0.0) used_tokens = std::max(0.0, used_tokens - tokens);
}

void GateLedger::refused(std::uint64_t number, const api::AdmissionRefusal& refusal) {
  Visit& visit = visits_.at(number);
  check_retry(number, refusal);
  switch (refusal.reason) {
    case api::RefusalReason::RequestsPerMinute:
    case api::RefusalReason::TokensPerMinute:
    case api::RefusalReason::TooLarge:
      check_limit(number, refusal);
      break;
    case api::RefusalReason::QueueFull:
      check_shed(number);
      break;
    case api::RefusalReason::Deadline:
      if (entering_ != number && clock_.now() < visit.deadline) {
        violated(number, "is refused before its deadline");
      }
      break;
    case api::RefusalReason::NoClass:
    case api::RefusalReason::ClassDenied:
      if (!visit.in.empty()) violated(number, "is refused its class");
      break;
  }
  const router::KeyRules& rules = rules_of(visit.arrival.key);
  give_back(visit, visit.tokens_taken);
  double& requests = used(keys_[visit.arrival.key].requests, rules.requests_per_minute);
  if (visit.request_taken) requests = std::max(0.0, requests - 1.0);
  visits_.erase(number);
}

// The limit was reached, and will have room when it is said to.
void GateLedger::check_limit(std::uint64_t number, const api::AdmissionRefusal& refusal) {
  const Visit& visit = visits_.at(number);
  const router::KeyRules& rules = rules_of(visit.arrival.key);
  const bool of_requests = refusal.reason == api::RefusalReason::RequestsPerMinute;
  const auto limit = of_requests ? rules.requests_per_minute : rules.tokens_per_minute;
  if (entering_ != number || !limit) {
    violated(number, "is refused for a limit that it does not have");
    return;
  }
  const auto most = static_cast<double>(*limit);
  if (refusal.reason == api::RefusalReason::TooLarge) {
    if (visit.tokens_taken <= most) violated(number, "is too large for no limit");
    return;
  }
  const double over = (of_requests ? visit.requests_used : visit.tokens_used) - most;
  if (over < -kTolerance) violated(number, "is refused though its key has enough left");
  const double seconds_told = to_seconds(refusal.retry_after.value_or(Nanoseconds::zero()));
  constexpr double kSecondsTolerance = 1e-2;
  if (std::abs(seconds_told - over / most * 60.0) > kSecondsTolerance) {
    violated(number, fmt::format("is told {} s to wait", seconds_told));
  }
}

// Of a line that is too long, the newest of the key with most in it.
void GateLedger::check_shed(std::uint64_t number) {
  const Visit& visit = visits_.at(number);
  const router::ClassRules* line = find_class(visit.in);
  if (line == nullptr || waiting_in(visit.in) <= line->queue_max) {
    violated(number, "is refused though its line has room");
  }
  const std::size_t own = waiting_in(visit.in, visit.arrival.key);
  for (const auto& [other, one] : visits_) {
    if (one.running || one.in != visit.in) continue;
    const bool newer = one.arrival.key == visit.arrival.key && other > number;
    if (newer || waiting_in(visit.in, one.arrival.key) > own) {
      violated(number, "is refused where another has to go");
    }
  }
}

// Whether it is said when to come again, where that helps.
void GateLedger::check_retry(std::uint64_t number, const api::AdmissionRefusal& refusal) {
  const bool helps = refusal.reason != api::RefusalReason::TooLarge &&
                     refusal.reason != api::RefusalReason::NoClass &&
                     refusal.reason != api::RefusalReason::ClassDenied;
  if (refusal.retry_after.has_value() != helps) {
    violated(number, "is not told whether to come again, and when");
  }
  if (helps && *refusal.retry_after <= Nanoseconds::zero()) {
    violated(number, "is told to come again at once");
  }
}

void GateLedger::leaves(std::uint64_t number, std::int64_t tokens) {
  const auto at = visits_.find(number);
  if (at == visits_.end()) return;  // it was refused
  Visit& visit = at->second;
  give_back(visit, visit.tokens_taken - static_cast<double>(tokens));
  if (visit.running) {
    --running_;
    --keys_[visit.arrival.key].running;
    reserved_ -= places_of(visit.arrival);
  }
  visits_.erase(at);
}

std::size_t GateLedger::waiting_in(std::string_view name) const {
  return static_cast<std::size_t>(std::ranges::count_if(visits_, [&](const auto& one) {
    return !one.second.running && one.second.in == name;
  }));
}

std::size_t GateLedger::waiting_in(std::string_view name, const std::string& key) const {
  return static_cast<std::size_t>(std::ranges::count_if(visits_, [&](const auto& one) {
    const Visit& visit = one.second;
    return !visit.running && visit.in == name && visit.arrival.key == key;
  }));
}

bool GateLedger::key_may_run_more(const Visit& visit) const {
  const auto at_most = rules_of(visit.arrival.key).concurrent_max;
  return !at_most || keys_.at(visit.arrival.key).running < *at_most;
}

// Whoever's turn it is of those that wait, it has to wait on.
void GateLedger::check_waiting() {
  std::int64_t largest = 0;  // places
  bool any = false;
  for (const auto& [number, visit] : visits_) {
    if (visit.running) continue;
    if (clock_.now() > visit.deadline) violated(number, "waits behind its deadline");
    if (!key_may_run_more(visit)) continue;
    largest = std::max(largest, places_of(visit.arrival));
    any = true;
  }
  if (!any || running_ >= rules_.concurrent_max) return;
  const bool fits =
      !rules_.tokens_max || running_ == 0 || reserved_ + largest <= *rules_.tokens_max;
  if (fits) verdict_.violated("somebody waits at the gate who may start");
}

void GateLedger::check(const router::Admission& gate) {
  check_waiting();
  if (gate.running() != running_) {
    verdict_.violated(
        fmt::format("the gate counts {} that run where {} do", gate.running(), running_)
    );
  }
  for (const router::Admission::Line& line : gate.lines()) {
    const std::size_t waiting = waiting_in(line.priority_class);
    waiting_max_[std::string(line.priority_class)] =
        std::max(waiting, find_class(line.priority_class)->queue_max);
    if (line.waiting == waiting) continue;
    verdict_.violated(fmt::format(
        "the gate counts {} in line {} where {} wait", line.waiting, line.priority_class, waiting
    ));
  }
}

void GateLedger::check_rates(const std::string& name, const api::RateStates& rates) {
  const router::KeyRules& rules = rules_of(name);
  Key& key = keys_[name];
  const auto check = [&](double use, const std::optional<api::RateState>& told) {
    if (!told) return;
    const double left = std::max(0.0, static_cast<double>(told->limit) - use);
    if (std::abs(left - static_cast<double>(told->remaining)) <= 1.0 + kTolerance) return;
    verdict_.violated(
        fmt::format("{} has {} of {} left, not {}", name, left, told->limit, told->remaining)
    );
  };
  check(used(key.requests, rules.requests_per_minute), rates.requests);
  check(used(key.tokens, rules.tokens_per_minute), rates.tokens);
}

}  // namespace pleiad::sim
