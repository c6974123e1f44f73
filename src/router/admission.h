#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "api/admission.h"
#include "base/clock.h"
#include "router/admission_rules.h"
#include "router/token_bucket.h"

namespace pleiad::router {

// Decides which requests may start and when. A request is refused at once when its key has used up
// a limit per minute; else it starts, or waits in the line of its class while the service or its
// key runs as many as it may.
//
// Between classes that wait, tokens start in the ratio of their weights, and between the keys of a
// class in equal parts (start-time fair queueing: Goyal, Vin and Cheng 1996, over two levels);
// requests of one key start in the order they came. A line that is full loses the newest request
// of the key that has most in it, so that no key can shut out the others.
//
// Pure: time is told by the caller and never goes back. Not thread-safe.
class Admission {
 public:
  using Ticket = api::AdmissionTicket;

  // What became of a request.
  struct Decision {
    Ticket ticket;
    std::string priority_class;  // empty: it came to none
    Nanoseconds waited{};
    api::AdmissionVerdict verdict;
  };
  struct Line {
    std::string_view priority_class;
    std::size_t waiting = 0;
  };

  Admission(AdmissionRules rules, Nanoseconds now);

  // Other rules from now on. What waits goes on waiting, in the class of the same name or else in
  // its key's usual one; what is used of a limit stays used.
  void set_rules(AdmissionRules rules, Nanoseconds now);

  Ticket enter(const api::Arrival& arrival, Nanoseconds now);
  // A request has ended and cost so many tokens, or does not want to wait any more.
  void leave(Ticket ticket, std::int64_t tokens, Nanoseconds now);
  // Refuses those that cannot wait any longer.
  void expire(Nanoseconds now);
  // When expire() will have something to do.
  [[nodiscard]] std::optional<Nanoseconds> next_deadline() const;

  // What was decided since this was last asked, in order. Every ticket is decided once, unless it
  // leaves before.
  std::vector<Decision> take_decisions() { return std::exchange(decisions_, {}); }

  [[nodiscard]] std::size_t running() const { return running_; }
  [[nodiscard]] std::vector<Line> lines() const;  // [classes]

 private:
  // The requests of one key that wait in one class.
  struct Lane {
    std::deque<Ticket> tickets;
    double start = 0.0;  // virtual time, in tokens
  };
  struct Key {
    KeyRules rules;
    std::optional<TokenBucket> requests;
    std::optional<TokenBucket> tokens;
    std::size_t running = 0;
    std::vector<Lane> lanes;  // [classes]
  };
  struct Class {
    ClassRules rules;
    double start = 0.0;       // virtual time, in tokens over weight
    double lane_start = 0.0;  // of the lane that was served last
    std::size_t waiting = 0;
    std::vector<Key*> active;               // keys with a lane that is not empty
    std::optional<Nanoseconds> last_start;  // while others waited
    Nanoseconds interval{};                 // between starts while others waited; a running mean
  };
  struct Request {
    Key* key = nullptr;
    std::size_t in = 0;  // class
    bool running = false;
    std::int64_t charged = 0;  // what it counts as
    // Whether the key's limits know of it: they do not when they are newer.
    bool request_taken = false;
    bool tokens_taken = false;
    std::int64_t reserved = 0;  // places in the caches
    Nanoseconds since{};
    Nanoseconds deadline{};
  };

  Key& key_of(const std::string& name, Nanoseconds now);
  void apply(Key& key, const KeyRules& rules, Nanoseconds now) const;
  [[nodiscard]] const KeyRules& rules_of(const std::string& name) const;
  [[nodiscard]] bool may_use(const KeyRules& rules, const std::string& name) const;
  [[nodiscard]] std::size_t usual_class(const KeyRules& rules) const;
  [[nodiscard]] std::optional<std::size_t> find_class(std::string_view name) const;
  [[nodiscard]] std::size_t class_of_priority(const KeyRules& rules, std::int32_t priority) const;
  // The class, or why there is none.
  [[nodiscard]] std::variant<std::size_t, api::AdmissionRefusal>
  choose_class(const KeyRules& rules, const api::Arrival& arrival) const;
  [[nodiscard]] std::int64_t charge_of(const Key& key, const api::Arrival& arrival) const;
  [[nodiscard]] std::optional<api::AdmissionRefusal>
  over_limit(const Key& key, std::int64_t charge, Nanoseconds now) const;
  static bool at_its_limit(const Key& key);

  static void give_back_tokens(const Request& request, std::int64_t tokens, Nanoseconds now);
  void wait(Ticket ticket, const Request& request);
  void pump(Nanoseconds now);
  [[nodiscard]] std::optional<Ticket> next() const;
  [[nodiscard]] const Lane* next_lane(std::size_t in) const;
  void start(Ticket ticket, Nanoseconds now);
  void measure(Class& line, Nanoseconds now) const;
  void unqueue(Ticket ticket, const Request& request);
  void shed(std::size_t in, Nanoseconds now);
  void drop_if_hopeless(Ticket ticket, Nanoseconds now);
  void drop_overdue(Nanoseconds now);
  void drop(Ticket ticket, api::AdmissionRefusal refusal, Nanoseconds now);
  void
  decide(Ticket ticket, const Request& request, api::AdmissionVerdict verdict, Nanoseconds now);

  AdmissionRules rules_;
  std::vector<Class> classes_;
  double class_start_ = 0.0;  // of the class that was served last
  std::unordered_map<std::string, std::unique_ptr<Key>> keys_;
  std::unordered_map<Ticket, Request> requests_;
  std::set<std::pair<Nanoseconds, Ticket>> deadlines_;  // of those that wait
  std::vector<Decision> decisions_;
  std::uint64_t last_ticket_ = 0;
  std::size_t running_ = 0;
  std::int64_t reserved_ = 0;  // by those that run
  bool full_ = false;          // requests wait whose keys may run more
};

}  // namespace pleiad::router
