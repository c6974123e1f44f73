#include "router/loop_admission.h"

#include <algorithm>
#include <array>
#include <utility>

namespace pleiad::router {
namespace {

constexpr std::array kWaitBounds = {0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0};

std::string_view name_of(api::RefusalReason reason) {
  switch (reason) {
    case api::RefusalReason::RequestsPerMinute:
      return "requests_per_minute";
    case api::RefusalReason::TokensPerMinute:
      return "tokens_per_minute";
    case api::RefusalReason::TooLarge:
      return "too_large";
    case api::RefusalReason::QueueFull:
      return "queue_full";
    case api::RefusalReason::Deadline:
      return "deadline";
    case api::RefusalReason::NoClass:
      return "no_class";
    case api::RefusalReason::ClassDenied:
      return "class_denied";
  }
  return "";
}

}  // namespace

LoopAdmission::LoopAdmission(
    net::EventLoop& loop,
    MetricsRegistry& metrics,
    const Clock& clock,
    AdmissionRules rules
)
    : loop_(loop),
      metrics_(metrics),
      clock_(clock),
      admission_(std::move(rules), clock.now()),
      running_(metrics.gauge(
          "pleiad_router_admitted_requests",
          "Requests of clients that were let in and have not ended"
      )) {
  show_lines();
}

void LoopAdmission::set_rules(AdmissionRules rules) {
  admission_.set_rules(std::move(rules), clock_.now());
  settle();
}

api::AdmissionTicket LoopAdmission::enter(
    const api::Arrival& arrival,
    std::function<void(const api::AdmissionVerdict&)> tell
) {
  const api::AdmissionTicket ticket = admission_.enter(arrival, clock_.now());
  tells_.emplace(ticket, std::move(tell));
  settle();
  return ticket;
}

void LoopAdmission::leave(api::AdmissionTicket ticket, std::int64_t tokens) {
  tells_.erase(ticket);
  admission_.leave(ticket, tokens, clock_.now());
  settle();
}

// Whoever is told may enter and leave: the outermost call tells what comes of that.
void LoopAdmission::settle() {
  if (telling_) return;
  telling_ = true;
  tell_all();
  telling_ = false;
  running_.set(static_cast<double>(admission_.running()));
  show_lines();
  set_timer();
}

void LoopAdmission::tell_all() {
  for (auto decisions = admission_.take_decisions(); !decisions.empty();
       decisions = admission_.take_decisions()) {
    for (const Admission::Decision& decision : decisions) {
      count(decision);
      auto told = tells_.extract(decision.ticket);
      if (!told.empty()) told.mapped()(decision.verdict);
    }
  }
}

void LoopAdmission::count(const Admission::Decision& decision) {
  const MetricLabels of_class = {{"class", decision.priority_class}};
  if (const auto* refusal = std::get_if<api::AdmissionRefusal>(&decision.verdict)) {
    metrics_
        .counter(
            "pleiad_router_refused_requests_total",
            "Requests that were not let in, by class (empty: none) and reason",
            {{"class", decision.priority_class}, {"reason", std::string(name_of(refusal->reason))}}
        )
        .add();
    return;
  }
  metrics_
      .histogram(
          "pleiad_router_queue_time_seconds",
          "Time that requests waited to be let in, by class",
          kWaitBounds,
          of_class
      )
      .observe(to_seconds(decision.waited));
}

void LoopAdmission::show_lines() {
  for (auto& [name, gauge] : waiting_) {
    gauge->set(0.0);
  }
  for (const Admission::Line& line : admission_.lines()) {
    Gauge*& gauge = waiting_[std::string(line.priority_class)];
    if (gauge == nullptr) {
      gauge = &metrics_.gauge(
          "pleiad_router_queue_requests",
          "Requests that wait to be let in, by class",
          {{"class", std::string(line.priority_class)}}
      );
    }
    gauge->set(static_cast<double>(line.waiting));
  }
}

void LoopAdmission::set_timer() {
  const auto deadline = admission_.next_deadline();
  if (!deadline) {
    timer_.cancel();
    return;
  }
  const Nanoseconds delay = std::max(*deadline - clock_.now(), Nanoseconds::zero());
  timer_ = loop_.after(delay, [this] {
    admission_.expire(clock_.now());
    settle();
  });
}

}  // namespace pleiad::router
