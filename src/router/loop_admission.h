#pragma once

#include <functional>
#include <map>
#include <string>
#include <unordered_map>

#include "api/admission.h"
#include "base/clock.h"
#include "base/metrics.h"
#include "net/event_loop.h"
#include "router/admission.h"

namespace pleiad::router {

// Admission on an event loop: its clock, the timer of its deadlines, its metrics. Loop thread.
class LoopAdmission final : public api::AdmissionGate {
 public:
  // All must outlive it.
  LoopAdmission(
      net::EventLoop& loop,
      MetricsRegistry& metrics,
      const Clock& clock,
      AdmissionRules rules
  );
  LoopAdmission(const LoopAdmission&) = delete;
  LoopAdmission& operator=(const LoopAdmission&) = delete;
  ~LoopAdmission() override = default;

  void set_rules(AdmissionRules rules);
  api::AdmissionTicket enter(
      const api::Arrival& arrival,
      std::function<void(const api::AdmissionVerdict&)> tell
  ) override;
  void leave(api::AdmissionTicket ticket, std::int64_t tokens) override;

 private:
  void settle();
  void tell_all();
  void count(const Admission::Decision& decision);
  void show_lines();
  void set_timer();

  net::EventLoop& loop_;
  MetricsRegistry& metrics_;
  const Clock& clock_;
  Admission admission_;
  Gauge& running_;
  std::map<std::string, Gauge*> waiting_;  // by class, of all rules there ever were
  std::unordered_map<api::AdmissionTicket, std::function<void(const api::AdmissionVerdict&)>>
      tells_;  // of those not yet told
  bool telling_ = false;
  net::Timer timer_;
};

}  // namespace pleiad::router
