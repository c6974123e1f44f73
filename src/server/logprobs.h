#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "api/generation.h"
#include "text/tokenizer.h"

namespace pleiad::server {

// One token of a choice with its score and alternatives, most likely first.
struct ScoredToken {
  api::TokenLogprob chosen;
  std::vector<api::TokenLogprob> top;
  std::size_t text_offset = 0;  // where its text begins in the choice's text, in characters
  bool scored = true;           // false: the first prompt token, which nothing precedes
};

// Code points of well-formed text: what text_offset counts.
std::size_t characters_in(std::string_view text);

// The score an event carries.
ScoredToken scored_token(const api::TokenEvent& event, std::size_t text_offset);

// How tokens are written in logprobs: as text, as "bytes:\xe2\x82" where they are part of a
// character, or as "token_id:7" when asked for or without a tokenizer.
struct TokenNames {
  const text::Tokenizer* tokenizer = nullptr;
  bool as_ids = false;

  [[nodiscard]] std::string name(TokenId token) const;
};

// Appends chat's form: {"content": [{token, logprob, bytes, top_logprobs}...], "refusal": null}.
void append_chat_logprobs(
    const TokenNames& names,
    std::span<const ScoredToken> tokens,
    std::string& out
);

// Appends the completions' form: {"tokens", "token_logprobs", "top_logprobs", "text_offset"}. The
// alternatives include the chosen token, so there may be one more than was asked for.
void append_completion_logprobs(
    const TokenNames& names,
    std::span<const ScoredToken> tokens,
    std::string& out
);

// Appends vLLM's prompt_logprobs: null for the first token, then {"id": {"logprob",
// "decoded_token"}}.
void append_prompt_logprobs(
    const TokenNames& names,
    std::span<const ScoredToken> tokens,
    std::string& out
);

}  // namespace pleiad::server
