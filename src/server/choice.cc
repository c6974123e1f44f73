#include "server/choice.h"

#include <iterator>
#include <utility>

#include "base/json.h"

namespace pleiad::server {
namespace {

template <typename T>
void append(std::vector<T>& to, std::vector<T>& from) {
  to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
  from.clear();
}

}  // namespace

Result<Choice> Choice::create(ChoiceOptions options) {
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
  if (options_.logprobs) held_.scores.push_back(scored_token(event, text_bytes_));
  if (options_.token_ids) held_.token_ids.push_back(event.chosen.token);
  if (!decoder_) {
    release_held();
    return;
  }
  const std::string piece = decoder_->push(event.chosen.token);
  text_bytes_ += piece.size();
  std::string shown = matcher_.push(piece);
  const bool all_shown = !shown.empty();
  ready_.text += shown;
  if (const auto index = matcher_.matched()) {
    held_ = {};
    finish_reason_ = "stop";
    stop_reason_json_.clear();
    append_json_string(options_.stop[*index], stop_reason_json_);
    return;
  }
  if (all_shown) release_held();
}

void Choice::end(const api::FinishEvent& event) {
  if (stopped()) return;
  finish_reason_ = event.reason == api::FinishReason::Length ? "length" : "stop";
  if (event.stop_token) stop_reason_json_ = std::to_string(*event.stop_token);
  if (decoder_) {
    ready_.text += matcher_.push(decoder_->finish());
    ready_.text += matcher_.finish();
  }
  release_held();
}

ChoiceDelta Choice::take() {
  return std::exchange(ready_, {});
}

void Choice::release_held() {
  append(ready_.scores, held_.scores);
  append(ready_.token_ids, held_.token_ids);
}

}  // namespace pleiad::server
