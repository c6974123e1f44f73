#include "router/routed_request.h"

#include <utility>

#include "base/check.h"

namespace pleiad::router {

RoutedRequest::RoutedRequest(
    api::RequestId id,
    api::GenerationRequest request,
    api::GenerationSink& sink
)
    : id_(id),
      rest_(std::move(request)),
      sink_(sink),
      keys_(page_keys(rest_.cache_salt, rest_.prompt)),
      prompt_tokens_(static_cast<std::int32_t>(rest_.prompt.size()) - rest_.resumed_tokens) {}

void RoutedRequest::begin_attempt(UnitIndex unit, const RequestCost& cost) {
  attempt.emplace();
  attempt->unit = unit;
  attempt->cost = cost;
  remote_id_.reset();
  reader_.emplace(*this);
}

// A prompt that is scored again tells only what was not told before.
void RoutedRequest::on_prompt_token(const api::TokenEvent& event) {
  remote_id_ = event.request;
  if (event.position < scored_) return;
  scored_ = event.position + 1;
  api::TokenEvent told = event;
  told.request = id_;
  sink_.on_prompt_token(told);
}

void RoutedRequest::on_token(const api::TokenEvent& event) {
  remote_id_ = event.request;
  attempt->prefilled = true;
  rest_.prompt.push_back(event.chosen.token);
  rest_.prompt_top_logprobs.reset();
  ++rest_.resumed_tokens;
  --rest_.max_tokens;
  ++output_tokens_;
  api::TokenEvent told = event;
  told.request = id_;
  sink_.on_token(told);
}

void RoutedRequest::finish(const api::FinishEvent& event) {
  if (!cached_tokens_) cached_tokens_ = event.cached_tokens;
  api::FinishEvent told = event;
  told.request = id_;
  told.prompt_tokens = prompt_tokens_;
  told.cached_tokens = *cached_tokens_;
  told.output_tokens = output_tokens_;
  sink_.on_finish(told);
}

}  // namespace pleiad::router
