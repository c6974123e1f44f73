#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "api/generation.h"
#include "api/generation_stream.h"
#include "base/clock.h"
#include "net/http_client.h"
#include "router/load_ledger.h"
#include "router/prefix_index.h"

namespace pleiad::router {

// A request on its way through the router: what of it is left to do, and one attempt at that on one
// unit. Takes in the attempt's events: tokens go to the client's sink under the router's id and
// become part of what another attempt begins with; an end is kept for the router to judge.
class RoutedRequest final : public api::GenerationSink {
 public:
  // Where it is tried now.
  struct Attempt {
    UnitIndex unit = 0;
    RequestCost cost;
    bool connected = false;  // the worker may have begun
    bool prefilled = false;  // a token came
    int status = 0;          // of the answer; 0: none yet
    std::string refusal;     // the answer's body when it is no stream
    std::optional<api::FinishEvent> finish;
    net::HttpCall call;
  };

  RoutedRequest(api::RequestId id, api::GenerationRequest request, api::GenerationSink& sink);

  [[nodiscard]] api::RequestId id() const { return id_; }
  // What is left: the prompt has the tokens that came, resumed_tokens and max_tokens count them.
  [[nodiscard]] const api::GenerationRequest& rest() const { return rest_; }
  [[nodiscard]] const std::vector<std::uint64_t>& keys() const { return keys_; }
  [[nodiscard]] std::int64_t prompt_tokens() const {
    return static_cast<std::int64_t>(rest_.prompt.size());
  }
  // All tokens came, though the attempt ended before it could say so.
  [[nodiscard]] bool complete() const { return output_tokens_ > 0 && rest_.max_tokens == 0; }

  void begin_attempt(UnitIndex unit, const RequestCost& cost);
  Result<void> feed(std::string_view bytes) { return reader_->feed(bytes); }
  // The worker's id of the request, once a token told it.
  [[nodiscard]] std::optional<api::RequestId> remote_id() const { return remote_id_; }

  // Tells the client how it ended. The last call.
  void finish(const api::FinishEvent& event);

  void on_prompt_token(const api::TokenEvent& event) override;
  void on_token(const api::TokenEvent& event) override;
  void on_finish(const api::FinishEvent& event) override { attempt->finish = event; }

  std::optional<Attempt> attempt;          // none: waits for a unit
  std::vector<UnitIndex> avoided;          // units that had no room for it, or lost it
  std::optional<Nanoseconds> waits_since;  // without a unit
  int deaths = 0;                          // attempts that ended with the loss of a worker
  bool early = false;                      // its output is complete (finish_early)

 private:
  const api::RequestId id_;
  api::GenerationRequest rest_;
  api::GenerationSink& sink_;
  const std::vector<std::uint64_t> keys_;  // of the prompt's pages
  const std::int32_t prompt_tokens_;
  std::int32_t output_tokens_ = 0;
  std::int32_t scored_ = 1;                    // prompt positions below this have been told
  std::optional<std::int32_t> cached_tokens_;  // of the first attempt that told
  std::optional<api::RequestId> remote_id_;
  std::optional<api::GenerationStreamReader> reader_;
};

}  // namespace pleiad::router
