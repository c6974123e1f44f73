#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/generation.h"
#include "server/logprobs.h"
#include "text/stop_matcher.h"
#include "text/stream_decoder.h"
#include "text/tokenizer.h"

namespace pleiad::server {

struct ChoiceOptions {
  const text::Tokenizer* tokenizer = nullptr;  // null: ids in, ids out; then no stop strings
  std::vector<std::string> stop;
  std::vector<TokenId> stop_tokens;  // the client's; told in stop_reason, unlike the model's own
  bool include_stop = false;
  bool skip_special = true;
  bool logprobs = false;
  bool token_ids = false;
};

// What became certain about a choice since it was last asked: text that can be shown, and the
// tokens that text came from.
struct ChoiceDelta {
  std::string text;
  std::vector<ScoredToken> scores;  // when logprobs are wanted
  std::vector<TokenId> token_ids;   // when they are wanted

  [[nodiscard]] bool empty() const { return text.empty() && scores.empty() && token_ids.empty(); }
};

// One continuation on its way from tokens to text. A token is shown with the first byte of its
// text: while that is held back (half a character, the start of a stop string), so is the token,
// and a token whose text a stop string swallows whole is never shown. One thread.
class Choice {
 public:
  // Fails when the stop strings are not acceptable. REQUIRES: a tokenizer where there are any.
  static Result<Choice> create(ChoiceOptions options);

  // The next token. Does nothing once stopped().
  void push(const api::TokenEvent& event);
  // The engine is done. Does nothing once stopped(): a stop string overrules the engine's reason.
  void end(const api::FinishEvent& event);

  // Takes what is ready to be shown.
  ChoiceDelta take();

  // A stop string matched, or end() came: nothing more will be shown after take().
  [[nodiscard]] bool stopped() const { return finish_reason_.has_value(); }
  // "stop" or "length"; for a failure the caller looks at the event. REQUIRES: stopped().
  [[nodiscard]] const std::string& finish_reason() const { return *finish_reason_; }
  // The stop string, or the id of the client's stop token, as JSON; "null" for neither.
  [[nodiscard]] const std::string& stop_reason_json() const { return stop_reason_json_; }
  // Tokens pushed, the swallowed ones too: what the answer cost.
  [[nodiscard]] std::int32_t output_tokens() const { return output_tokens_; }

 private:
  // A token whose text has not begun to be shown.
  struct HeldToken {
    std::size_t begin_byte = 0;  // of its text in everything decoded
    ScoredToken scored;
  };

  Choice(ChoiceOptions options, text::StopMatcher matcher);
  void decode(std::string_view piece);
  void show(std::string_view text);
  void release(HeldToken& token);
  void release_all();

  ChoiceOptions options_;
  text::StopMatcher matcher_;
  std::optional<text::StreamDecoder> decoder_;
  ChoiceDelta ready_;
  std::deque<HeldToken> held_;
  std::size_t decoded_bytes_ = 0;
  std::size_t decoded_characters_ = 0;
  std::size_t shown_bytes_ = 0;  // of what was decoded
  std::int32_t output_tokens_ = 0;
  std::optional<std::string> finish_reason_;
  std::string stop_reason_json_ = "null";
};

}  // namespace pleiad::server
