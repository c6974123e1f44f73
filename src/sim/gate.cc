#include "sim/gate.h"

#include <utility>

namespace pleiad::sim {

SimGate::SimGate(Timeline& timeline, router::AdmissionRules rules)
    : timeline_(timeline), admission_(std::move(rules), timeline.now()) {}

void SimGate::set_rules(router::AdmissionRules rules) {
  admission_.set_rules(std::move(rules), timeline_.now());
  settle();
}

api::AdmissionTicket SimGate::enter(
    const api::Arrival& arrival,
    std::function<void(const api::AdmissionVerdict&)> tell
) {
  const api::AdmissionTicket ticket = admission_.enter(arrival, timeline_.now());
  tells_.emplace(ticket, std::move(tell));
  settle();
  return ticket;
}

void SimGate::leave(api::AdmissionTicket ticket, std::int64_t tokens) {
  tells_.erase(ticket);
  admission_.leave(ticket, tokens, timeline_.now());
  settle();
}

// Whoever is told may leave: the outermost call tells what comes of that.
void SimGate::settle() {
  if (telling_) return;
  telling_ = true;
  tell_all();
  telling_ = false;
  set_timer();
}

void SimGate::tell_all() {
  for (auto decisions = admission_.take_decisions(); !decisions.empty();
       decisions = admission_.take_decisions()) {
    for (const router::Admission::Decision& decision : decisions) {
      auto told = tells_.extract(decision.ticket);
      if (!told.empty()) told.mapped()(decision.verdict);
    }
  }
}

void SimGate::set_timer() {
  const auto deadline = admission_.next_deadline();
  if (timer_ == deadline) return;
  timer_ = deadline;
  if (!deadline) return;
  timeline_.at(*deadline, [this, due = *deadline] {
    if (timer_ != due) return;  // another was set since
    timer_.reset();
    admission_.expire(timeline_.now());
    settle();
  });
}

}  // namespace pleiad::sim
