#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "api/admission.h"
#include "base/clock.h"
#include "router/admission.h"
#include "router/admission_rules.h"
#include "sim/client.h"

namespace pleiad::sim {

// An account of its own of what a gate may say, kept by those who stand before it: what they are
// told is compared with the rules, with how long the lines are, and with what each key has used.
// Visits have growing numbers. Not thread-safe.
class GateLedger {
 public:
  // Both must outlive it.
  GateLedger(const Clock& clock, Verdict& verdict, router::AdmissionRules rules);

  // Before the gate gets them.
  void set_rules(router::AdmissionRules rules);
  // Before the gate gets the visit, and once it has it.
  void enters(std::uint64_t number, const api::Arrival& arrival);
  void has_entered(std::uint64_t number);
  void told(std::uint64_t number, const api::AdmissionVerdict& verdict);
  // Before the gate hears it.
  void leaves(std::uint64_t number, std::int64_t tokens);

  // When nothing is half done: nobody waits who may start or could not wait so long, no line is too
  // long, and the gate's account of who is there is this one.
  void check(const router::Admission& gate);

 private:
  // How much of a limit per minute is used: grows by what is taken, falls steadily to nothing.
  struct Use {
    double amount = 0.0;
    Nanoseconds at{0};
  };
  struct Key {
    Use requests;
    Use tokens;
    std::size_t running = 0;
  };
  struct Visit {
    api::Arrival arrival;
    std::string in;  // class; empty: there is none for it
    Nanoseconds since{0};
    Nanoseconds deadline{0};
    bool running = false;
    bool request_taken = false;  // from the key's limit
    double tokens_taken = 0.0;   // likewise
    double requests_used = 0.0;  // by the key when it came, with its own
    double tokens_used = 0.0;
  };

  void violated(std::uint64_t number, std::string_view what);
  [[nodiscard]] const router::KeyRules& rules_of(const std::string& key) const;
  [[nodiscard]] const router::ClassRules* find_class(std::string_view name) const;
  [[nodiscard]] std::string class_of(const api::Arrival& arrival) const;
  [[nodiscard]] std::string class_of_priority(const router::KeyRules& key, int priority) const;
  [[nodiscard]] double cost_of(const api::Arrival& arrival) const;
  // What is used now.
  double& used(Use& use, std::optional<std::int64_t> limit) const;
  void give_back(Visit& visit, double tokens);
  void check_admitted(std::uint64_t number);
  void granted(std::uint64_t number, const api::AdmissionGrant& grant);
  void refused(std::uint64_t number, const api::AdmissionRefusal& refusal);
  void check_limit(std::uint64_t number, const api::AdmissionRefusal& refusal);
  void check_shed(std::uint64_t number);
  void check_retry(std::uint64_t number, const api::AdmissionRefusal& refusal);
  [[nodiscard]] std::size_t waiting_in(std::string_view name) const;
  [[nodiscard]] std::size_t waiting_in(std::string_view name, const std::string& key) const;
  [[nodiscard]] bool key_may_run_more(const Visit& visit) const;
  void check_waiting();
  // What a verdict says is left to a key is what is left.
  void check_rates(const std::string& name, const api::RateStates& rates);

  const Clock& clock_;
  Verdict& verdict_;
  router::AdmissionRules rules_;
  std::map<std::uint64_t, Visit> visits_;  // that wait or run
  std::map<std::string, Key> keys_;
  std::map<std::string, std::size_t> waiting_max_;  // by class
  std::optional<std::uint64_t> entering_;
  std::size_t running_ = 0;
  std::int64_t reserved_ = 0;  // places in caches, by those that run
};

}  // namespace pleiad::sim
