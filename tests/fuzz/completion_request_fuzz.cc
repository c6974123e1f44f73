#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <variant>
#include <vector>

#include "api/sampling.h"
#include "base/json.h"
#include "server/api_error.h"
#include "server/completion_request.h"

namespace {

using pleiad::server::ApiError;
using pleiad::server::CompletionRequest;
using pleiad::server::Endpoint;

constexpr pleiad::server::RequestRules kRules{.vocabulary = 100};

void require(bool condition) {
  if (!condition) std::abort();
}

void check_ids(const std::vector<pleiad::TokenId>& ids) {
  for (const pleiad::TokenId id : ids) {
    require(id < kRules.vocabulary);
  }
}

// What the parser promises of a request it accepts.
void check(const CompletionRequest& request) {
  require(validate(request.sampling, kRules.vocabulary).ok());
  require(request.n >= 1 && request.n <= kRules.choices_max);
  require(!request.max_tokens || *request.max_tokens >= 0);
  require(request.top_logprobs.value_or(0) <= pleiad::api::kTopLogprobsMax);
  require(request.prompt_logprobs.value_or(0) <= pleiad::api::kTopLogprobsMax);
  check_ids(request.stop_tokens);
  for (const auto& stop : request.stop) {
    require(!stop.empty() && stop.size() <= kRules.stop_bytes_max);
  }
  for (const auto& prompt : request.prompts) {
    if (const auto* ids = std::get_if<std::vector<pleiad::TokenId>>(&prompt)) check_ids(*ids);
  }
  if (request.endpoint == Endpoint::Completion) {
    require(!request.prompts.empty());
    return;
  }
  require(request.messages.is_array() && !request.messages.as_array()->empty());
  for (const pleiad::Json& message : *request.messages.as_array()) {
    const pleiad::Json* content = message.find("content");
    require(content != nullptr && content->is_string());
  }
}

}  // namespace

// Whatever is accepted is in range, and whatever is refused is refused with a well-formed 400.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(bytes), size);
  const auto body = pleiad::parse_json(text);
  if (!body.ok()) return 0;
  for (const Endpoint endpoint : {Endpoint::Chat, Endpoint::Completion}) {
    const auto parsed = parse_completion_request(endpoint, *body, kRules);
    if (const auto* error = std::get_if<ApiError>(&parsed)) {
      require(error->status == 400 && !error->message.empty());
      require(pleiad::parse_json(error_json(*error)).ok());
    } else {
      check(std::get<CompletionRequest>(parsed));
    }
  }
  return 0;
}
