#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <unordered_map>
#include <vector>

#include "api/admission.h"
#include "api/generation.h"
#include "sim/gate_ledger.h"
#include "sim/timeline.h"

namespace pleiad::sim {

// A client's request as it comes to the gate.
struct SimVisit {
  api::Arrival arrival;            // without its tokens
  api::GenerationRequest request;  // of each choice
  int choices = 1;
  int tries = 1;         // at most, when it is refused and told when to come again
  Nanoseconds until{0};  // nor any later
};

struct SessionCounts {
  std::uint64_t visits = 0;
  std::uint64_t waited = 0;   // visits that did not start at once
  std::uint64_t refused = 0;  // by the gate
};

// Clients' requests from the gate to the end of their last choice: the twin of
// server/completion_session. What the gate says is kept in a ledger.
class Sessions {
 public:
  // What sessions ask of the service behind the gate.
  struct Service {
    // None: it takes nothing.
    std::function<std::optional<api::RequestId>(api::GenerationRequest)> submit;
    std::function<void(api::RequestId)> cancel;
    // Every choice was submitted.
    std::function<void(std::uint64_t session, const std::vector<api::RequestId>&)> on_begun;
  };

  // All must outlive it.
  Sessions(Timeline& timeline, api::AdmissionGate& gate, GateLedger& ledger, Service service);
  Sessions(const Sessions&) = delete;
  Sessions& operator=(const Sessions&) = delete;

  // Returns the session's number.
  std::uint64_t arrive(SimVisit visit);
  // The client goes, whether it waits or is being answered.
  void hang_up(std::uint64_t session);
  // A request that was submitted has ended. Not from inside its sink.
  void on_ended(api::RequestId request, std::int64_t output_tokens);

  [[nodiscard]] bool empty() const { return sessions_.empty(); }
  [[nodiscard]] bool has(std::uint64_t session) const { return sessions_.contains(session); }
  [[nodiscard]] std::size_t size() const { return sessions_.size(); }
  [[nodiscard]] const SessionCounts& counts() const { return counts_; }

 private:
  struct Session {
    SimVisit visit;
    std::optional<api::AdmissionTicket> ticket;
    bool waiting = true;                    // at the gate
    std::vector<api::RequestId> submitted;  // choices
    std::size_t unfinished = 0;             // of these
    std::int64_t output_tokens = 0;
  };

  void on_verdict(std::uint64_t number, const api::AdmissionVerdict& verdict);
  void begin(std::uint64_t number, const api::AdmissionGrant& grant);
  void come_again(const SimVisit& visit, const api::AdmissionRefusal& refusal);
  void settle(std::uint64_t number);

  Timeline& timeline_;
  api::AdmissionGate& gate_;
  GateLedger& ledger_;
  Service service_;
  std::map<std::uint64_t, Session> sessions_;                     // that are not over
  std::unordered_map<api::RequestId, std::uint64_t> session_of_;  // of what has not ended
  std::uint64_t next_ = 1;
  SessionCounts counts_;
};

}  // namespace pleiad::sim
