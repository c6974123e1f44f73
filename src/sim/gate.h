#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <unordered_map>

#include "api/admission.h"
#include "base/clock.h"
#include "router/admission.h"
#include "sim/timeline.h"

namespace pleiad::sim {

// The router's admission under virtual time: the twin of LoopAdmission.
class SimGate final : public api::AdmissionGate {
 public:
  // `timeline` must outlive the gate, and the gate all that happens.
  SimGate(Timeline& timeline, router::AdmissionRules rules);
  SimGate(const SimGate&) = delete;
  SimGate& operator=(const SimGate&) = delete;
  ~SimGate() override = default;

  void set_rules(router::AdmissionRules rules);
  api::AdmissionTicket enter(
      const api::Arrival& arrival,
      std::function<void(const api::AdmissionVerdict&)> tell
  ) override;
  void leave(api::AdmissionTicket ticket, std::int64_t tokens) override;

  [[nodiscard]] const router::Admission& admission() const { return admission_; }

 private:
  void settle();
  void tell_all();
  void set_timer();

  Timeline& timeline_;
  router::Admission admission_;
  std::unordered_map<api::AdmissionTicket, std::function<void(const api::AdmissionVerdict&)>>
      tells_;  // of those not yet told
  bool telling_ = false;
  std::optional<Nanoseconds> timer_;  // arranged for
};

}  // namespace pleiad::sim
