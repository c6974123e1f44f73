#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "api/generation.h"
#include "server/logprobs.h"
#include "text/stop_matcher.h"
#include "text/stream_decoder.h"
#include "text/tokenizer.h"

namespace pleiad::server {

struct ChoiceOptions {
  const text::Tokenizer* tokenizer = nullptr;  // null: ids in, ids out
  std::vector<std::string> stop;
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

// One continuation on its way from tokens to text. Tokens whose text is held back (half a
// character, the start of a stop string) are held back with it; what a stop string swallows is
// never shown, neither as text nor as scores. One thread.
class Choice {
 public:
  // Fails when the stop strings are not acceptable.
  static Result<Choice> create(ChoiceOptions options);

  // The next token. Does nothing once stopped().
  void push(const api::TokenEvent& event);
  // The engine is done. The reason is overruled by a stop string that matched before.
  void end(const api::FinishEvent& event);

  // Takes what is ready to be shown.
  ChoiceDelta take();

  // A stop string matched, or end() came: nothing more will be shown after take().
  [[nodiscard]] bool stopped() const { return finish_reason_.has_value(); }
  // "stop" or "length"; for a failure the caller looks at the event. REQUIRES: stopped().
  [[nodiscard]] const std::string& finish_reason() const { return *finish_reason_; }
  // The stop string, or the stop token's id as JSON; "null" for neither.
  [[nodiscard]] const std::string& stop_reason_json() const { return stop_reason_json_; }
  [[nodiscard]] std::int32_t output_tokens() const { return output_tokens_; }

 private:
  Choice(ChoiceOptions options, text::StopMatcher matcher);
  void release_held();

  ChoiceOptions options_;
  text::StopMatcher matcher_;
  std::optional<text::StreamDecoder> decoder_;
  ChoiceDelta ready_;
  ChoiceDelta held_;            // tokens whose text is not certain yet; its text is unused
  std::size_t text_bytes_ = 0;  // of text decoded so far
  std::int32_t output_tokens_ = 0;
  std::optional<std::string> finish_reason_;
  std::string stop_reason_json_ = "null";
};

}  // namespace pleiad::server
