#pragma once

#include <cstdint>
#include <span>

#include "api/generation.h"
#include "base/token.h"

// A model whose right answer is known whatever happens: each token is a hash of all before it and
// of where the output began, so that an answer that went on wrongly is wrong from there on.
namespace pleiad::sim {

inline constexpr std::int64_t kStubVocabulary = 30000;
// Ends an output; about one token in 64 is it.
inline constexpr TokenId kStubEnd = 0;
// A prompt that begins with it kills the worker that computes it.
inline constexpr TokenId kPoison = kStubVocabulary;

// The token after `tokens`, of which `prompt_tokens` were the client's.
TokenId stub_token(std::span<const TokenId> tokens, std::int64_t prompt_tokens);

// Tokens of the prompt that the client sent, before any output.
inline std::int64_t client_prompt_tokens(const api::GenerationRequest& request) {
  return static_cast<std::int64_t>(request.prompt.size()) - request.resumed_tokens;
}

}  // namespace pleiad::sim
