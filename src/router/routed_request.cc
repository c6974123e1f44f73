#include "router/routed_request.h"

#include <algorithm>
#include <utility>

namespace pleiad::router {

RoutedRequest::RoutedRequest(
    api::RequestId id,
    api::GenerationRequest request,
    api::GenerationSink& sink
)
    : rest_{.id = id, .request = std::move(request)},
      sink_(sink),
      keys_(prefix_keys(rest_.request.cache_salt, rest_.request.prompt)),
      prompt_tokens_(
          static_cast<std::int32_t>(rest_.request.prompt.size()) - rest_.request.resumed_tokens
      ) {}

void RoutedRequest::begin_attempt(Attempt begun, std::int32_t dp_rank) {
  rest_.request.dp_rank = dp_rank;
  rest_.request.prefill_from.reset();
  if (begun.prefill) rest_.request.prefill_from = begun.prefill->from;
  attempt = std::move(begun);
}

void RoutedRequest::tell_place(std::string place) {
  sink_.on_placed({.request = id(), .place = std::move(place)});
}

void RoutedRequest::on_prompt_token(const api::TokenEvent& event) {
  attempt->remote = event.request;
  waited = {};
  if (event.position < scored_) return;
  scored_ = event.position + 1;
  api::TokenEvent told = event;
  told.request = id();
  sink_.on_prompt_token(told);
}

Result<void> RoutedRequest::on_token(const api::TokenEvent& event) {
  api::GenerationRequest& rest = rest_.request;
  if (event.position != prompt_tokens() || rest.max_tokens == 0) {
    return corrupt(
        "a token of position {} came where {} of {} more are due from {}",
        event.position,
        rest.max_tokens,
        rest.max_tokens + output_tokens_,
        prompt_tokens()
    );
  }
  attempt->remote = event.request;
  attempt->prefilled = true;
  waited = {};
  rest.prompt.push_back(event.chosen.token);
  rest.prompt_top_logprobs.reset();
  ++rest.resumed_tokens;
  --rest.max_tokens;
  ++output_tokens_;
  api::TokenEvent told = event;
  told.request = id();
  sink_.on_token(told);
  return {};
}

// A request that went on elsewhere may have found its own output cached there.
void RoutedRequest::finish(const api::FinishEvent& event) {
  api::FinishEvent told = event;
  told.request = id();
  told.prompt_tokens = prompt_tokens_;
  told.cached_tokens = std::min(event.cached_tokens, prompt_tokens_);
  told.output_tokens = output_tokens_;
  sink_.on_finish(told);
}

}  // namespace pleiad::router
