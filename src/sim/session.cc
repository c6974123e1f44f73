#include "sim/session.h"

#include <utility>

#include "base/check.h"

namespace pleiad::sim {

Sessions::Sessions(
    Timeline& timeline,
    api::AdmissionGate& gate,
    GateLedger& ledger,
    Service service
)
    : timeline_(timeline), gate_(gate), ledger_(ledger), service_(std::move(service)) {}

std::uint64_t Sessions::arrive(SimVisit visit) {
  const std::uint64_t number = next_++;
  api::Arrival arrival = visit.arrival;
  arrival.prompt_tokens = static_cast<std::int64_t>(visit.request.prompt.size());
  arrival.output_tokens_max = std::int64_t{visit.choices} * visit.request.max_tokens;
  ++counts_.visits;
  sessions_.emplace(number, Session{.visit = std::move(visit)});
  ledger_.enters(number, arrival);
  const api::AdmissionTicket ticket = gate_.enter(
      arrival, [this, number](const api::AdmissionVerdict& verdict) { on_verdict(number, verdict); }
  );
  ledger_.has_entered(number);
  Session& session = sessions_.at(number);
  session.ticket = ticket;
  if (session.waiting) ++counts_.waited;
  settle(number);
  return number;
}

void Sessions::on_verdict(std::uint64_t number, const api::AdmissionVerdict& verdict) {
  ledger_.told(number, verdict);
  const auto at = sessions_.find(number);
  if (at == sessions_.end() || !at->second.waiting) return;  // the ledger has said so
  at->second.waiting = false;
  if (const auto* grant = std::get_if<api::AdmissionGrant>(&verdict)) {
    begin(number, *grant);
  } else {
    ++counts_.refused;
    come_again(at->second.visit, std::get<api::AdmissionRefusal>(verdict));
  }
  settle(number);
}

void Sessions::begin(std::uint64_t number, const api::AdmissionGrant& grant) {
  Session& session = sessions_.at(number);
  for (int i = 0; i < session.visit.choices; ++i) {
    api::GenerationRequest request = session.visit.request;
    request.priority = grant.priority.value_or(request.priority);
    const auto id = service_.submit(std::move(request));
    if (!id) {
      for (const api::RequestId submitted : session.submitted) {
        service_.cancel(submitted);
      }
      return;
    }
    session.submitted.push_back(*id);
    ++session.unfinished;
    session_of_.emplace(*id, number);
  }
  service_.on_begun(number, session.submitted);
}

void Sessions::come_again(const SimVisit& visit, const api::AdmissionRefusal& refusal) {
  const bool may = visit.tries > 1 && refusal.retry_after.has_value() &&
                   timeline_.now() + *refusal.retry_after < visit.until;
  if (!may) return;
  SimVisit again = visit;
  --again.tries;
  timeline_.after(*refusal.retry_after, [this, again = std::move(again)] { arrive(again); });
}

void Sessions::hang_up(std::uint64_t session) {
  const auto at = sessions_.find(session);
  if (at == sessions_.end()) return;
  at->second.waiting = false;
  for (const api::RequestId request : at->second.submitted) {
    service_.cancel(request);
  }
  settle(session);
}

void Sessions::on_ended(api::RequestId request, std::int64_t output_tokens) {
  const auto at = session_of_.find(request);
  PLEIAD_CHECK(at != session_of_.end(), "a request has a session and ends once");
  const std::uint64_t number = at->second;
  session_of_.erase(at);
  Session& session = sessions_.at(number);
  session.output_tokens += output_tokens;
  --session.unfinished;
  settle(number);
}

// Tells the gate when it is over; inside enter() the ticket is not known yet.
void Sessions::settle(std::uint64_t number) {
  const auto at = sessions_.find(number);
  if (at == sessions_.end() || !at->second.ticket) return;
  const Session& session = at->second;
  if (session.waiting || session.unfinished > 0) return;
  const auto prompt = static_cast<std::int64_t>(session.visit.request.prompt.size());
  const std::int64_t tokens = session.submitted.empty() ? 0 : prompt + session.output_tokens;
  const api::AdmissionTicket ticket = *session.ticket;
  sessions_.erase(at);
  ledger_.leaves(number, tokens);
  gate_.leave(ticket, tokens);
}

}  // namespace pleiad::sim
