#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "api/generation.h"
#include "api/generation_wire.h"
#include "base/clock.h"
#include "base/result.h"
#include "router/load_ledger.h"
#include "router/prefix_index.h"
#include "router/worker_link.h"

namespace pleiad::router {

// A request on its way through the router: what of it is left to do, and one attempt at that on one
// unit. Tokens of the attempt go to the client's sink under the router's id and become part of what
// another attempt begins with.
class RoutedRequest {
 public:
  // Another unit that computes the prompt.
  struct Prefill {
    UnitIndex unit = 0;
    RequestCost cost;
    api::PrefillFrom from;
    std::uint64_t reports = 0;  // of its worker, before it was sent
  };

  // Where it is tried now.
  struct Attempt {
    AttemptId id;
    UnitIndex unit = 0;
    RequestCost cost;
    std::uint64_t reports = 0;             // of its worker, before it was sent
    bool connected = false;                // the worker may have begun
    bool prefilled = false;                // a token came
    std::optional<Prefill> prefill;        // until then: computes the prompt for the unit
    std::optional<api::RequestId> remote;  // the worker's id of the request, once a token told it
  };

  // The sink must outlive the request.
  RoutedRequest(api::RequestId id, api::GenerationRequest request, api::GenerationSink& sink);

  [[nodiscard]] api::RequestId id() const { return rest_.id; }
  // What is left: the prompt has the tokens that came, resumed_tokens and max_tokens count them.
  [[nodiscard]] const api::SubmitMessage& rest() const { return rest_; }
  // Of the prompt that the client sent (prefix_index.h).
  [[nodiscard]] const std::vector<std::uint64_t>& keys() const { return keys_; }
  [[nodiscard]] std::int64_t prompt_tokens() const {
    return static_cast<std::int64_t>(rest_.request.prompt.size());
  }
  // All tokens came, though the attempt ended before it could say so.
  [[nodiscard]] bool complete() const {
    return output_tokens_ > 0 && rest_.request.max_tokens == 0;
  }

  // Tries it on `begun.unit`, dp rank `dp_rank` of its worker.
  void begin_attempt(Attempt begun, std::int32_t dp_rank);

  // Tells the client where it is tried.
  void tell_place(std::string place);
  // Events of the attempt. A prompt that is scored again tells only what was not told before. A
  // token that is not the next one is Corrupt, and not told.
  void on_prompt_token(const api::TokenEvent& event);
  Result<void> on_token(const api::TokenEvent& event);

  // Tells the client how it ended. The last call.
  void finish(const api::FinishEvent& event);

  std::optional<Attempt> attempt;          // none: waits for a unit
  std::vector<UnitIndex> avoided;          // units that had no room for it, or lost it
  std::vector<UnitIndex> prefill_avoided;  // units that did not bring its prompt
  std::optional<Nanoseconds> waits_since;  // in the queue
  Nanoseconds waited{0};                   // there before, since a worker last began with it
  int deaths = 0;                          // attempts that ended with the loss of a worker
  bool early = false;                      // its output is complete (Generator::finish_early)

 private:
  api::SubmitMessage rest_;
  api::GenerationSink& sink_;
  const std::vector<std::uint64_t> keys_;
  const std::int32_t prompt_tokens_;
  std::int32_t output_tokens_ = 0;
  std::int32_t scored_ = 1;  // prompt positions below this have been told
};

}  // namespace pleiad::router
