#include "sim/client.h"

#include <utility>

#include <fmt/core.h>

#include "sim/stub_model.h"

namespace pleiad::sim {

SimClient::SimClient(api::RequestId id, api::GenerationRequest request, Verdict& verdict)
    : id_(id), request_(std::move(request)), verdict_(verdict), tokens_(request_.prompt) {}

void SimClient::violated(std::string_view what) {
  verdict_.violated(fmt::format("request {}: {}", id_.value(), what));
}

std::int64_t SimClient::output_tokens() const {
  return static_cast<std::int64_t>(tokens_.size() - request_.prompt.size());
}

TokenId SimClient::next() const {
  return stub_token(tokens_, static_cast<std::int64_t>(request_.prompt.size()));
}

bool SimClient::ends_with(TokenId token) const {
  return token == kStubEnd && !request_.ignore_eos;
}

void SimClient::on_prompt_token(const api::TokenEvent& event) {
  const bool due = request_.prompt_top_logprobs.has_value() && event.position == scored_ &&
                   tokens_.size() == request_.prompt.size() && !finish_;
  if (!due || event.request != id_) {
    violated(fmt::format("a score of position {} out of turn", event.position));
    return;
  }
  if (event.chosen.token != request_.prompt[static_cast<std::size_t>(event.position)]) {
    violated(fmt::format("a score of another prompt at {}", event.position));
  }
  ++scored_;
}

void SimClient::on_token(const api::TokenEvent& event) {
  if (finish_) violated("a token after the end");
  if (event.request != id_) violated("a token under another id");
  if (output_tokens() >= request_.max_tokens) violated("a token more than asked for");
  if (event.position != static_cast<std::int32_t>(tokens_.size())) {
    violated(fmt::format("a token of position {} at {}", event.position, tokens_.size()));
  }
  const TokenId right = next();
  if (event.chosen.token != right || ends_with(right)) {
    violated(
        fmt::format("token {} at {} where {} is right", event.chosen.token, tokens_.size(), right)
    );
  }
  tokens_.push_back(event.chosen.token);
}

void SimClient::on_finish(const api::FinishEvent& event) {
  if (finish_) {
    violated("a second end");
    return;
  }
  finish_ = event;
  if (event.request != id_) violated("an end under another id");
  if (event.output_tokens != output_tokens()) violated("usage counts other output tokens");
  if (event.prompt_tokens != static_cast<std::int32_t>(request_.prompt.size())) {
    violated("usage counts other prompt tokens");
  }
  if (event.cached_tokens < 0 || event.cached_tokens > event.prompt_tokens) {
    violated("usage counts impossible cached tokens");
  }
}

void SimClient::judge_end(const Circumstances& circumstances) {
  const api::FinishEvent& finish = *finish_;
  switch (finish.reason) {
    case api::FinishReason::Stop:
    case api::FinishReason::Length:
      judge_whole(finish);
      return;
    case api::FinishReason::Cancelled:
      if (!cancelled) violated("cancelled by nobody");
      return;
    case api::FinishReason::Error:
      if (circumstances.attempts < 2) violated("an error: " + finish.message);
      return;
    case api::FinishReason::Lost:
      if (circumstances.waited < circumstances.wait_allowed) violated("given up too early");
      return;
  }
}

void SimClient::judge_whole(const api::FinishEvent& finish) {
  if (early) return;
  const bool full = output_tokens() == request_.max_tokens;
  const bool stops = finish.reason == api::FinishReason::Stop;
  if (stops && (full || !ends_with(next()))) violated("it stopped in the middle");
  if (!stops && !full) violated("its length is not that asked for");
  const bool all_scored = scored_ == static_cast<std::int32_t>(request_.prompt.size());
  if (request_.prompt_top_logprobs && !all_scored) violated("scores of the prompt are missing");
}

}  // namespace pleiad::sim
