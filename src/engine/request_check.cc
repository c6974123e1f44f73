#include "engine/request_check.h"

#include <algorithm>
#include <optional>
#include <span>
#include <string_view>

namespace pleiad::engine {
namespace {

Result<void>
check_ids(std::span<const TokenId> ids, std::int64_t vocabulary, std::string_view what) {
  for (const TokenId id : ids) {
    if (static_cast<std::int64_t>(id) >= vocabulary) {
      return invalid_input("{} id {} is not below the vocabulary's {}", what, id, vocabulary);
    }
  }
  return {};
}

Result<void> check_top(std::optional<std::int32_t> top, std::string_view what) {
  if (!top || (*top >= 0 && *top <= api::kTopLogprobsMax)) return {};
  return invalid_input("{} must be between 0 and {}, got {}", what, api::kTopLogprobsMax, *top);
}

}  // namespace

Result<void> check_request(
    const api::GenerationRequest& request,
    const sched::SchedulerOptions& limits,
    std::int64_t vocabulary
) {
  const auto prompt = static_cast<std::int64_t>(request.prompt.size());
  if (prompt == 0) return invalid_input("the prompt has no tokens");
  if (request.max_tokens < 0) {
    return invalid_input("max_tokens must be 0 or more, got {}", request.max_tokens);
  }
  if (request.resumed_tokens < 0 || request.resumed_tokens >= prompt) {
    return invalid_input(
        "resumed_tokens must be between 0 and {}, one below the prompt's tokens, got {}",
        prompt - 1,
        request.resumed_tokens
    );
  }
  if (request.resumed_tokens > 0 && request.prompt_top_logprobs) {
    return invalid_input("a resumed request has scored its prompt already");
  }
  const std::int64_t longest =
      std::min(limits.sequence_tokens_max, limits.pages * sched::kPageTokens);
  if (prompt + request.max_tokens > longest) {
    return invalid_input(
        "prompt of {} tokens plus max_tokens {} exceeds the context of {} tokens",
        prompt,
        request.max_tokens,
        longest
    );
  }
  if (request.cache_salt.size() > api::kCacheSaltBytesMax) {
    return invalid_input(
        "cache_salt of {} bytes is longer than {}",
        request.cache_salt.size(),
        api::kCacheSaltBytesMax
    );
  }
  PLEIAD_TRY(check_ids(request.prompt, vocabulary, "prompt token"));
  PLEIAD_TRY(check_ids(request.stop_tokens, vocabulary, "stop token"));
  PLEIAD_TRY(check_top(request.top_logprobs, "top_logprobs"));
  PLEIAD_TRY(check_top(request.prompt_top_logprobs, "prompt_logprobs"));
  return api::validate(request.sampling, vocabulary);
}

}  // namespace pleiad::engine
