#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <variant>

#include "base/clock.h"
#include "base/id.h"

// What crosses between the side that speaks HTTP (server) and the one that decides when a client's
// request may start (router).
namespace pleiad::api {

// A client's request that is ready to start.
struct Arrival {
  std::string key;             // the name of the API key it came with; empty: keys have no names
  std::string priority_class;  // that it asks for by name; empty: by none
  std::optional<std::int32_t> priority;  // that it asks for by number; lower is more urgent
  std::int64_t prompt_tokens = 0;
  std::int64_t output_tokens_max = 0;   // of all its choices
  bool output_bounded = true;           // the client named that bound; else the context does
  std::optional<Nanoseconds> patience;  // how long it may wait for its start
};

// How a limit per minute stands.
struct RateState {
  std::int64_t limit = 0;
  std::int64_t remaining = 0;
  Nanoseconds whole_in{};  // until all of it may be used again
};

// The limits of a key; none where it has none.
struct RateStates {
  std::optional<RateState> requests;
  std::optional<RateState> tokens;
};

struct AdmissionGrant {
  std::string priority_class;
  std::optional<std::int32_t> priority;  // to be sent with; none: what the client asked for
  RateStates rates;
};

enum class RefusalReason {
  RequestsPerMinute,
  TokensPerMinute,
  TooLarge,    // more tokens than the key's limit of a minute: it can never start
  QueueFull,   // too many wait already
  Deadline,    // it cannot start in the time that it, or its class, may wait
  NoClass,     // there is no class of that name
  ClassDenied  // its key may not use that class
};

struct AdmissionRefusal {
  RefusalReason reason = RefusalReason::QueueFull;
  std::string message;
  std::optional<Nanoseconds> retry_after;  // none: trying again does not help
  RateStates rates;
};

using AdmissionVerdict = std::variant<AdmissionGrant, AdmissionRefusal>;
using AdmissionTicket = Id<struct AdmissionTicketTag, std::uint64_t>;

// Decides when requests may start. One thread: that of the loop which its owner runs on.
class AdmissionGate {
 public:
  virtual ~AdmissionGate() = default;
  // `tell` is called once, maybe inside this call; not after leave().
  virtual AdmissionTicket
  enter(const Arrival& arrival, std::function<void(const AdmissionVerdict&)> tell) = 0;
  // The request has ended, or nobody waits for it any more. `tokens`: prompt and output that it
  // cost. Tickets that were refused are fine.
  virtual void leave(AdmissionTicket ticket, std::int64_t tokens) = 0;
};

}  // namespace pleiad::api
