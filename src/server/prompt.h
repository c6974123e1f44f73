#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/token.h"
#include "server/api_error.h"
#include "server/completion_request.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace pleiad::server {

// How the served model reads and writes text. Immutable, shared by all threads.
struct ModelText {
  std::optional<text::Tokenizer> tokenizer;         // none: ids in, ids out
  std::optional<text::ChatTemplate> chat_template;  // none: no chat endpoint
  // Instead of that for requests that bring tools; none: the same for all.
  std::optional<text::ChatTemplate> tool_template;
  std::string bos_token;  // empty: none
  std::string eos_token;
};

// A prompt as the engine takes it, and as text where an echo may be asked for.
struct PreparedPrompt {
  std::vector<TokenId> tokens;
  std::string text;
};

// Renders the chat, encoding it so that control tokens typed inside a message stay text, or encodes
// each prompt. `date` is what templates tell the model. Time grows with the prompt: not for the
// event loop.
std::variant<std::vector<PreparedPrompt>, ApiError> prepare_prompts(
    const CompletionRequest& request,
    const ModelText& text,
    std::chrono::sys_seconds date
);

}  // namespace pleiad::server
