#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "server/choice.h"
#include "server/completion_request.h"
#include "server/logprobs.h"

// The bodies of OpenAI's completion answers, whole and in chunks. Pure.
namespace pleiad::server {

// What every body of one answer shares.
struct AnswerIdentity {
  Endpoint endpoint = Endpoint::Chat;
  std::string id;  // "chatcmpl-..." or "cmpl-..."
  std::string model;
  std::int64_t created = 0;  // unix seconds
  bool stream = false;
};

struct Usage {
  std::int64_t prompt_tokens = 0;
  std::int64_t completion_tokens = 0;
  std::int64_t cached_tokens = 0;  // of the prompt
};

// One choice of a body.
struct ChoiceView {
  std::size_t index = 0;
  std::string_view text;
  bool role = false;      // chat chunks: the first delta, which names the role
  bool logprobs = false;  // whether a logprobs object belongs here
  std::span<const ScoredToken> scores;
  bool token_ids = false;
  std::span<const TokenId> ids;
  const std::string* finish_reason = nullptr;  // null: not finished
  std::string_view stop_reason_json = "null";
  std::span<const ScoredToken> prompt_scores;  // vLLM's prompt_logprobs; empty: none
};

// {"id":...,"choices":[ as far as it is the same for every body.
std::string answer_prefix(const AnswerIdentity& identity);

void append_choice(
    const AnswerIdentity& identity,
    const TokenNames& names,
    const ChoiceView& choice,
    std::string& out
);

// ],"usage":...} for a whole answer or a chunk: the totals, null ("it comes later"), or no member
// at all.
enum class UsageForm { Totals, Null, Absent };
void append_suffix(UsageForm form, const Usage& usage, std::string& out);

}  // namespace pleiad::server
