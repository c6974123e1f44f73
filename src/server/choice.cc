#include "server/choice.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/json.h"

namespace pleiad::server {

Result<Choice> Choice::create(ChoiceOptions options) {
  PLEIAD_CHECK(options.tokenizer != nullptr || options.stop.empty(), "stop strings need text");
  PLEIAD_TRY(
      matcher, text::StopMatcher::create(options.stop, {.include_stop = options.include_stop})
  );
  return Choice(std::move(options), std::move(matcher));
}

Choice::Choice(ChoiceOptions options, text::StopMatcher matcher)
    : options_(std::move(options)), matcher_(std::move(matcher)) {
  if (options_.tokenizer != nullptr) {
    decoder_.emplace(
        *options_.tokenizer, text::DecodeOptions{.skip_special = options_.skip_special}
    );
  }
}

void Choice::push(const api::TokenEvent& event) {
  if (stopped()) return;
  ++output_tokens_;
  HeldToken token{.begin_byte = decoded_bytes_};
  if (options_.logprobs) {
    token.scored = scored_token(event, decoded_characters_);
  } else {
    token.scored.chosen = event.chosen;
  }
  held_.push_back(std::move(token));
  if (decoder_) {
    decode(decoder_->push(event.chosen.token));
  } else {
    release_all();
  }
}

void Choice::end(const api::FinishEvent& event) {
  if (stopped()) return;
  if (decoder_) {
    decode(decoder_->finish());
    if (stopped()) return;
    show(matcher_.finish());
  }
  release_all();
  finish_reason_ = event.reason == api::FinishReason::Length ? "length" : "stop";
  const auto& wanted = options_.stop_tokens;
  if (event.stop_token && std::ranges::find(wanted, *event.stop_token) != wanted.end()) {
    stop_reason_json_ = std::to_string(*event.stop_token);
  }
}

ChoiceDelta Choice::take() {
  return std::exchange(ready_, {});
}

void Choice::decode(std::string_view piece) {
  decoded_bytes_ += piece.size();
  decoded_characters_ += characters_in(piece);
  show(matcher_.push(piece));
  if (const auto index = matcher_.matched()) {
    held_.clear();
    finish_reason_ = "stop";
    stop_reason_json_.clear();
    append_json_string(options_.stop[*index], stop_reason_json_);
  }
}

void Choice::show(std::string_view text) {
  ready_.text += text;
  shown_bytes_ += text.size();
  while (!held_.empty() && held_.front().begin_byte < shown_bytes_) {
    release(held_.front());
    held_.pop_front();
  }
}

void Choice::release(HeldToken& token) {
  if (options_.token_ids) ready_.token_ids.push_back(token.scored.chosen.token);
  if (options_.logprobs) ready_.scores.push_back(std::move(token.scored));
}

void Choice::release_all() {
  for (HeldToken& token : held_) {
    release(token);
  }
  held_.clear();
}

}  // namespace pleiad::server
