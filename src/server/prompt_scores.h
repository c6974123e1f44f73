#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "api/generation.h"
#include "server/logprobs.h"
#include "server/prompt.h"
#include "text/stream_decoder.h"

namespace pleiad::server {

// The scores of one prompt's tokens as they come in. The first token stands for itself, unscored:
// nothing precedes it. One thread.
class PromptScores {
 public:
  // `prompt` and `tokenizer` (null: none) must outlive the scores. REQUIRES: a token in `prompt`.
  PromptScores(const PreparedPrompt& prompt, const text::Tokenizer* tokenizer);

  void add(const api::TokenEvent& event);
  [[nodiscard]] std::span<const ScoredToken> tokens() const { return tokens_; }
  // A copy with at most `top_max` alternatives for each token.
  [[nodiscard]] std::vector<ScoredToken> with_top(std::size_t top_max) const;

 private:
  // Where the next token's text begins, after `token`.
  void pass(TokenId token);

  std::optional<text::StreamDecoder> decoder_;
  std::size_t offset_ = 0;
  std::vector<ScoredToken> tokens_;
};

}  // namespace pleiad::server
