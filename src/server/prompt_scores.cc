#include "server/prompt_scores.h"

#include <algorithm>
#include <utility>

namespace pleiad::server {
namespace {

// Whether encoding put `prompt`'s first token in front of the client's text.
bool is_added(const PreparedPrompt& prompt, const text::Tokenizer& tokenizer) {
  const TokenId first = prompt.tokens.front();
  return tokenizer.is_special(first) && !prompt.text.starts_with(tokenizer.token_bytes(first));
}

}  // namespace

PromptScores::PromptScores(const PreparedPrompt& prompt, const text::Tokenizer* tokenizer) {
  if (tokenizer != nullptr) decoder_.emplace(*tokenizer);
  tokens_.push_back({.chosen = {prompt.tokens.front(), 0.0F}, .scored = false});
  const bool added = tokenizer != nullptr && is_added(prompt, *tokenizer);
  if (!added) pass(prompt.tokens.front());
}

void PromptScores::add(const api::TokenEvent& event) {
  tokens_.push_back(scored_token(event, offset_));
  pass(event.chosen.token);
}

std::vector<ScoredToken> PromptScores::with_top(std::size_t top_max) const {
  std::vector<ScoredToken> out = tokens_;
  for (ScoredToken& token : out) {
    token.top.resize(std::min(token.top.size(), top_max));
  }
  return out;
}

void PromptScores::pass(TokenId token) {
  if (decoder_) offset_ += characters_in(decoder_->push(token));
}

}  // namespace pleiad::server
