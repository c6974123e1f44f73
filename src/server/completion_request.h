#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "api/generation.h"
#include "base/json.h"
#include "base/result.h"
#include "base/token.h"
#include "server/api_error.h"

namespace pleiad::server {

// Which of the two endpoints a request came to; decides defaults and the form of the answer.
enum class Endpoint { Chat, Completion };

// A prompt as the client gave it.
using PromptSource = std::variant<std::string, std::vector<TokenId>>;

// What a client asked for, in our terms; ranges are checked, ids are below the vocabulary.
struct CompletionRequest {
  Endpoint endpoint = Endpoint::Chat;
  std::string model;  // as sent; empty: the served one

  // Chat only.
  Json messages;            // an array; contents made plain strings
  Json tools;               // an array or null
  Json template_arguments;  // an object: chat_template_kwargs
  bool add_generation_prompt = true;
  // Completion only.
  std::vector<PromptSource> prompts;
  bool echo = false;
  bool add_special_tokens = true;

  std::int32_t n = 1;  // choices per prompt
  std::optional<std::int32_t>
      max_tokens;  // none: 16 for completions, what the context leaves for chats
  api::Sampling sampling;
  bool seeded = false;  // the client gave a seed
  std::vector<std::string> stop;
  std::vector<TokenId> stop_tokens;
  bool include_stop = false;
  bool ignore_eos = false;
  bool skip_special_tokens = true;
  std::optional<std::int32_t> top_logprobs;     // per output token; none: no logprobs
  std::optional<std::int32_t> prompt_logprobs;  // per prompt token, in a list of their own
  bool tokens_as_ids = false;                   // "token_id:7" instead of text in logprobs
  bool return_token_ids = false;                // token_ids beside the text
  std::string cache_salt;
  std::string session;  // prompt_cache_key, or else user; empty: neither
  std::int32_t priority = 0;
  bool prioritised = false;  // the client gave one

  bool stream = false;
  bool include_usage = false;
};

// What a request is judged against.
struct RequestRules {
  std::int64_t vocabulary = 0;
  std::int64_t choices_max = 256;  // prompts x n
  std::size_t stop_bytes_max = 4096;
  api::Sampling default_sampling;  // from the checkpoint's generation_config.json
};

// The ids of `list`. Fails with "hold token ids from 0 to ..." unless all are integers below
// `vocabulary`.
Result<std::vector<TokenId>> parse_token_ids(const JsonArray& list, std::int64_t vocabulary);

// Reads the body of POST /v1/chat/completions or /v1/completions. An answer other than a request is
// what the client gets. Pure.
std::variant<CompletionRequest, ApiError>
parse_completion_request(Endpoint endpoint, const Json& body, const RequestRules& rules);

}  // namespace pleiad::server
