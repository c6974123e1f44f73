#include "router/admission.h"

#include <algorithm>
#include <limits>

#include <fmt/core.h>

#include "base/check.h"

namespace pleiad::router {
namespace {

constexpr Nanoseconds kRetryMin = std::chrono::seconds(1);
constexpr Nanoseconds kRetryMax = std::chrono::seconds(60);

api::RateState state_of(const TokenBucket& bucket, Nanoseconds now) {
  return {
      .limit = bucket.limit(),
      .remaining = bucket.available(now),
      .whole_in = bucket.until_full(now),
  };
}

api::RateStates states_of(
    const std::optional<TokenBucket>& requests,
    const std::optional<TokenBucket>& tokens,
    Nanoseconds now
) {
  api::RateStates out;
  if (requests) out.requests = state_of(*requests, now);
  if (tokens) out.tokens = state_of(*tokens, now);
  return out;
}

void set_limit(
    std::optional<TokenBucket>& bucket,
    std::optional<std::int64_t> limit,
    Nanoseconds now
) {
  if (!limit) {
    bucket.reset();
  } else if (bucket) {
    bucket->set_limit(*limit, now);
  } else {
    bucket.emplace(*limit, now);
  }
}

std::string joined(const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& name : names) {
    out += (out.empty() ? "" : ", ") + name;
  }
  return out;
}

}  // namespace

Admission::Admission(AdmissionRules rules, Nanoseconds now) {
  set_rules(std::move(rules), now);
}

void Admission::set_rules(AdmissionRules rules, Nanoseconds now) {
  PLEIAD_CHECK(!rules.classes.empty());
  std::vector<std::pair<Ticket, std::string>> waiting;
  for (const auto& [ticket, request] : requests_) {
    if (!request.running) waiting.emplace_back(ticket, classes_[request.in].rules.name);
  }
  std::ranges::sort(waiting);
  rules_ = std::move(rules);
  classes_.clear();
  class_start_ = 0.0;
  for (const ClassRules& line : rules_.classes) {
    classes_.push_back({.rules = line});
  }
  for (auto& [name, key] : keys_) {
    apply(*key, rules_of(name), now);
  }
  for (auto& [ticket, request] : requests_) {
    if (!request.key->requests) request.request_taken = false;
    if (!request.key->tokens) request.tokens_taken = false;
  }
  for (const auto& [ticket, name] : waiting) {
    Request& request = requests_.at(ticket);
    const auto same = find_class(name);
    request.in = same ? *same : usual_class(request.key->rules);
    wait(ticket, request);
  }
  pump(now);
}

void Admission::apply(Key& key, const KeyRules& rules, Nanoseconds now) const {
  key.rules = rules;
  set_limit(key.requests, rules.requests_per_minute, now);
  set_limit(key.tokens, rules.tokens_per_minute, now);
  key.lanes.assign(classes_.size(), {});
}

const KeyRules& Admission::rules_of(const std::string& name) const {
  const auto at = std::ranges::find(rules_.keys, name, &KeyRules::name);
  return at == rules_.keys.end() ? rules_.other_keys : *at;
}

Admission::Key& Admission::key_of(const std::string& name, Nanoseconds now) {
  std::unique_ptr<Key>& key = keys_[name];
  if (!key) {
    key = std::make_unique<Key>();
    apply(*key, rules_of(name), now);
  }
  return *key;
}

std::optional<std::size_t> Admission::find_class(std::string_view name) const {
  for (std::size_t in = 0; in < classes_.size(); ++in) {
    if (classes_[in].rules.name == name) return in;
  }
  return std::nullopt;
}

bool Admission::may_use(const KeyRules& rules, const std::string& name) const {
  return rules.classes.empty() || std::ranges::find(rules.classes, name) != rules.classes.end();
}

std::size_t Admission::usual_class(const KeyRules& rules) const {
  return rules.classes.empty() ? 0 : find_class(rules.classes.front()).value_or(0);
}

// Of the classes that the key may use and that have a priority: the least urgent one that is at
// least as urgent as asked for, or else the most urgent one.
std::size_t Admission::class_of_priority(const KeyRules& rules, std::int32_t priority) const {
  std::optional<std::size_t> best;
  const auto better = [&](std::int32_t candidate, std::int32_t than) {
    const bool fits = candidate <= priority;
    const bool other_fits = than <= priority;
    if (fits != other_fits) return fits;
    return fits ? candidate > than : candidate < than;
  };
  for (std::size_t in = 0; in < classes_.size(); ++in) {
    const ClassRules& line = classes_[in].rules;
    if (!line.priority || !may_use(rules, line.name)) continue;
    if (!best || better(*line.priority, *classes_[*best].rules.priority)) best = in;
  }
  return best.value_or(usual_class(rules));
}

std::variant<std::size_t, api::AdmissionRefusal>
Admission::choose_class(const KeyRules& rules, const api::Arrival& arrival) const {
  if (arrival.priority_class.empty()) {
    if (arrival.priority) return class_of_priority(rules, *arrival.priority);
    return usual_class(rules);
  }
  const auto found = find_class(arrival.priority_class);
  if (found && may_use(rules, classes_[*found].rules.name)) return *found;
  std::vector<std::string> known = rules.classes;
  if (known.empty()) {
    for (const Class& line : classes_) {
      known.push_back(line.rules.name);
    }
  }
  if (!found) {
    return api::AdmissionRefusal{
        .reason = api::RefusalReason::NoClass,
        .message = fmt::format("there is no priority class of that name; known: {}", joined(known)),
        .retry_after = {},
        .rates = {},
    };
  }
  return api::AdmissionRefusal{
      .reason = api::RefusalReason::ClassDenied,
      .message = fmt::format(
          "this key may not use priority class {}; it may use {}",
          arrival.priority_class,
          joined(known)
      ),
      .retry_after = {},
      .rates = {},
  };
}

std::int64_t Admission::charge_of(const Key& key, const api::Arrival& arrival) const {
  const std::int64_t whole = arrival.prompt_tokens + arrival.output_tokens_max;
  if (arrival.output_bounded) return whole;
  const std::int64_t assumed =
      arrival.prompt_tokens + std::min(arrival.output_tokens_max, rules_.assumed_output_tokens);
  // Whoever names no bound is not refused for what was only assumed.
  const std::int64_t limit = key.tokens ? key.tokens->limit() : assumed;
  return std::max(arrival.prompt_tokens, std::min(assumed, limit));
}

std::optional<api::AdmissionRefusal>
Admission::over_limit(const Key& key, std::int64_t charge, Nanoseconds now) const {
  const api::RateStates rates = states_of(key.requests, key.tokens, now);
  if (key.requests && key.requests->until(1, now) > Nanoseconds::zero()) {
    return api::AdmissionRefusal{
        .reason = api::RefusalReason::RequestsPerMinute,
        .message = fmt::format(
            "rate limit reached: this key may send {} requests per minute", key.requests->limit()
        ),
        .retry_after = key.requests->until(1, now),
        .rates = rates,
    };
  }
  if (!key.tokens) return std::nullopt;
  if (charge > key.tokens->limit()) {
    return api::AdmissionRefusal{
        .reason = api::RefusalReason::TooLarge,
        .message = fmt::format(
            "the request asks for {} tokens (prompt and max_tokens); this key may use {} per "
            "minute",
            charge,
            key.tokens->limit()
        ),
        .retry_after = {},
        .rates = rates,
    };
  }
  const Nanoseconds until = key.tokens->until(charge, now);
  if (until == Nanoseconds::zero()) return std::nullopt;
  return api::AdmissionRefusal{
      .reason = api::RefusalReason::TokensPerMinute,
      .message = fmt::format(
          "rate limit reached: this key may use {} tokens per minute, {} are left, and the request "
          "asks for {}",
          key.tokens->limit(),
          key.tokens->available(now),
          charge
      ),
      .retry_after = until,
      .rates = rates,
  };
}

bool Admission::at_its_limit(const Key& key) {
  return key.rules.concurrent_max && key.running >= *key.rules.concurrent_max;
}

// The last to come, when the line is so long that, as fast as it moves, its turn comes too late.
void Admission::drop_if_hopeless(Ticket ticket, Nanoseconds now) {
  const Request& request = requests_.at(ticket);
  const Class& line = classes_[request.in];
  const Nanoseconds patience = request.deadline - now;
  const Nanoseconds expected = line.interval * static_cast<std::int64_t>(line.waiting);
  if (at_its_limit(*request.key) || expected <= patience) return;
  drop(
      ticket,
      {.reason = api::RefusalReason::Deadline,
       .message = fmt::format(
           "{} requests of class {} wait already, about {:.1f} s; this one may wait {:.1f} s",
           line.waiting - 1,
           line.rules.name,
           to_seconds(expected),
           to_seconds(patience)
       ),
       .retry_after = std::clamp(expected, kRetryMin, kRetryMax),
       .rates = {}},
      now
  );
}

Admission::Ticket Admission::enter(const api::Arrival& arrival, Nanoseconds now) {
  const Ticket ticket(++last_ticket_);
  Key& key = key_of(arrival.key, now);
  const auto chosen = choose_class(key.rules, arrival);
  if (const auto* refusal = std::get_if<api::AdmissionRefusal>(&chosen)) {
    decisions_.push_back({ticket, {}, {}, *refusal});
    return ticket;
  }
  Request request{.key = &key, .in = std::get<std::size_t>(chosen), .since = now};
  const Class& line = classes_[request.in];
  const Nanoseconds patience =
      std::min(arrival.patience.value_or(line.rules.wait_max), line.rules.wait_max);
  request.charged = charge_of(key, arrival);
  request.reserved = arrival.prompt_tokens + arrival.output_tokens_max;
  request.deadline = now + patience;
  if (auto refusal = over_limit(key, request.charged, now)) {
    decide(ticket, request, *std::move(refusal), now);
    return ticket;
  }
  request.request_taken = key.requests.has_value();
  request.tokens_taken = key.tokens.has_value();
  if (key.requests) key.requests->take(1, now);
  if (key.tokens) key.tokens->take(request.charged, now);
  requests_.emplace(ticket, request);
  wait(ticket, request);
  pump(now);
  const std::size_t held = requests_.size();
  if (line.waiting > line.rules.queue_max) shed(request.in, now);
  const auto at = requests_.find(ticket);
  if (at != requests_.end() && !at->second.running) drop_if_hopeless(ticket, now);
  drop_overdue(now);
  if (requests_.size() < held) pump(now);
  return ticket;
}

// To the end of its key's lane. A lane or class that was empty begins no earlier than those that
// are served: what it did not ask for is not saved up.
void Admission::wait(Ticket ticket, const Request& request) {
  Class& line = classes_[request.in];
  Lane& lane = request.key->lanes[request.in];
  if (line.waiting == 0) line.start = std::max(line.start, class_start_);
  if (lane.tickets.empty()) {
    lane.start = std::max(lane.start, line.lane_start);
    line.active.push_back(request.key);
  }
  lane.tickets.push_back(ticket);
  ++line.waiting;
  deadlines_.emplace(request.deadline, ticket);
}

void Admission::pump(Nanoseconds now) {
  while (const auto ticket = next()) {
    start(*ticket, now);
  }
  full_ = false;
  for (std::size_t in = 0; in < classes_.size(); ++in) {
    full_ = full_ || next_lane(in) != nullptr;
  }
}

const Admission::Lane* Admission::next_lane(std::size_t in) const {
  const Lane* best = nullptr;
  for (const Key* key : classes_[in].active) {
    const Lane& lane = key->lanes[in];
    if (at_its_limit(*key)) continue;
    if (best == nullptr || lane.start < best->start) best = &lane;
  }
  return best;
}

// The request whose turn it is, if there is room for it. A large one is waited for: were others let
// past it, it would never start.
std::optional<Admission::Ticket> Admission::next() const {
  if (running_ >= rules_.concurrent_max) return std::nullopt;
  const Lane* best = nullptr;
  double best_start = std::numeric_limits<double>::infinity();
  for (std::size_t in = 0; in < classes_.size(); ++in) {
    const Lane* lane = next_lane(in);
    if (lane == nullptr || classes_[in].start >= best_start) continue;
    best = lane;
    best_start = classes_[in].start;
  }
  if (best == nullptr) return std::nullopt;
  const Ticket ticket = best->tickets.front();
  const bool fits = !rules_.tokens_max || running_ == 0 ||
                    reserved_ + requests_.at(ticket).reserved <= *rules_.tokens_max;
  if (!fits) return std::nullopt;
  return ticket;
}

void Admission::start(Ticket ticket, Nanoseconds now) {
  Request& request = requests_.at(ticket);
  Class& line = classes_[request.in];
  Lane& lane = request.key->lanes[request.in];
  measure(line, now);
  const auto tokens = static_cast<double>(request.charged);
  class_start_ = line.start;
  line.lane_start = lane.start;
  line.start += tokens / static_cast<double>(line.rules.weight);
  lane.start += tokens;
  unqueue(ticket, request);
  request.running = true;
  ++running_;
  ++request.key->running;
  reserved_ += request.reserved;
  decide(
      ticket,
      request,
      api::AdmissionGrant{
          .priority_class = line.rules.name,
          .priority = line.rules.priority,
          .rates = states_of(request.key->requests, request.key->tokens, now),
      },
      now
  );
}

// How fast the line moves while the service is full.
void Admission::measure(Class& line, Nanoseconds now) const {
  constexpr std::int64_t kShare = 8;  // of the mean, that one more interval is
  if (!full_) {
    line.last_start.reset();
    return;
  }
  if (line.last_start) {
    const Nanoseconds interval = now - *line.last_start;
    const bool first = line.interval == Nanoseconds::zero();
    line.interval += first ? interval : (interval - line.interval) / kShare;
  }
  line.last_start = now;
}

void Admission::unqueue(Ticket ticket, const Request& request) {
  Class& line = classes_[request.in];
  Lane& lane = request.key->lanes[request.in];
  lane.tickets.erase(std::ranges::find(lane.tickets, ticket));
  if (lane.tickets.empty()) std::erase(line.active, request.key);
  --line.waiting;
  deadlines_.erase({request.deadline, ticket});
}

void Admission::shed(std::size_t in, Nanoseconds now) {
  const Class& line = classes_[in];
  // Of keys that tie the last to come has the newest request.
  const auto longest = std::ranges::max_element(line.active, {}, [in](const Key* key) {
    return std::pair(key->lanes[in].tickets.size(), key->lanes[in].tickets.back());
  });
  const Ticket victim = (*longest)->lanes[in].tickets.back();
  const Nanoseconds expected = line.interval * static_cast<std::int64_t>(line.waiting);
  drop(
      victim,
      {.reason = api::RefusalReason::QueueFull,
       .message = fmt::format(
           "{} requests run and {} of class {} wait, as many as may; try later",
           running_,
           line.rules.queue_max,
           line.rules.name
       ),
       .retry_after = std::clamp(expected, kRetryMin, kRetryMax),
       .rates = {}},
      now
  );
}

// Below zero: it cost more than it was charged.
void Admission::give_back_tokens(const Request& request, std::int64_t tokens, Nanoseconds now) {
  if (request.tokens_taken) request.key->tokens->give_back(tokens, now);
}

void Admission::drop(Ticket ticket, api::AdmissionRefusal refusal, Nanoseconds now) {
  const Request request = requests_.at(ticket);
  unqueue(ticket, request);
  Key& key = *request.key;
  if (request.request_taken) key.requests->give_back(1, now);
  give_back_tokens(request, request.charged, now);
  refusal.rates = states_of(key.requests, key.tokens, now);
  decide(ticket, request, std::move(refusal), now);
  requests_.erase(ticket);
}

void Admission::decide(
    Ticket ticket,
    const Request& request,
    api::AdmissionVerdict verdict,
    Nanoseconds now
) {
  decisions_.push_back(
      {ticket, classes_[request.in].rules.name, now - request.since, std::move(verdict)}
  );
}

void Admission::leave(Ticket ticket, std::int64_t tokens, Nanoseconds now) {
  const auto at = requests_.find(ticket);
  if (at == requests_.end()) return;
  const Request request = at->second;
  if (request.running) {
    --running_;
    --request.key->running;
    reserved_ -= request.reserved;
  } else {
    unqueue(ticket, request);
  }
  give_back_tokens(request, request.charged - tokens, now);
  requests_.erase(at);
  pump(now);
}

void Admission::expire(Nanoseconds now) {
  const std::size_t held = requests_.size();
  drop_overdue(now);
  // It may have been what the others waited for.
  if (requests_.size() < held) pump(now);
}

void Admission::drop_overdue(Nanoseconds now) {
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    const Ticket ticket = deadlines_.begin()->second;
    const Request& request = requests_.at(ticket);
    const Class& line = classes_[request.in];
    const Nanoseconds expected = line.interval * static_cast<std::int64_t>(line.waiting);
    drop(
        ticket,
        {.reason = api::RefusalReason::Deadline,
         .message = fmt::format(
             "the request could not start within {:.1f} s; {} requests of class {} wait",
             to_seconds(now - request.since),
             line.waiting,
             line.rules.name
         ),
         .retry_after = std::clamp(expected, kRetryMin, kRetryMax),
         .rates = {}},
        now
    );
  }
}

std::optional<Nanoseconds> Admission::next_deadline() const {
  if (deadlines_.empty()) return std::nullopt;
  return deadlines_.begin()->first;
}

std::vector<Admission::Line> Admission::lines() const {
  std::vector<Line> out;
  for (const Class& line : classes_) {
    out.push_back({line.rules.name, line.waiting});
  }
  return out;
}

}  // namespace pleiad::router
