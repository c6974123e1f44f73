#include "server/completion_json.h"

#include <fmt/core.h>
#include <fmt/format.h>

#include "base/json.h"

namespace pleiad::server {
namespace {

std::string_view object_name(const AnswerIdentity& identity) {
  if (identity.endpoint == Endpoint::Completion) return "text_completion";
  return identity.stream ? "chat.completion.chunk" : "chat.completion";
}

// The part that carries the text: message, delta or text.
void append_content(const AnswerIdentity& identity, const ChoiceView& choice, std::string& out) {
  if (identity.endpoint == Endpoint::Completion) {
    out += R"(,"text":)";
    append_json_string(choice.text, out);
    return;
  }
  if (!identity.stream) {
    out += R"(,"message":{"role":"assistant","content":)";
    append_json_string(choice.text, out);
    out += R"(,"refusal":null})";
    return;
  }
  out += R"(,"delta":{)";
  if (choice.role) out += R"("role":"assistant")";
  if (choice.role || !choice.text.empty() || choice.finish_reason == nullptr) {
    out += choice.role ? R"(,"content":)" : R"("content":)";
    append_json_string(choice.text, out);
  }
  out += '}';
}

void append_scores(
    const AnswerIdentity& identity,
    const TokenNames& names,
    const ChoiceView& choice,
    std::string& out
) {
  out += R"(,"logprobs":)";
  if (!choice.logprobs) {
    out += "null";
  } else if (identity.endpoint == Endpoint::Chat) {
    append_chat_logprobs(names, choice.scores, out);
  } else {
    append_completion_logprobs(names, choice.scores, out);
  }
  if (choice.prompt_scores.empty()) return;
  out += R"(,"prompt_logprobs":)";
  append_prompt_logprobs(names, choice.prompt_scores, out);
}

}  // namespace

std::string answer_prefix(const AnswerIdentity& identity) {
  std::string out = R"({"id":)";
  append_json_string(identity.id, out);
  out += fmt::format(
      R"(,"object":"{}","created":{},"model":)", object_name(identity), identity.created
  );
  append_json_string(identity.model, out);
  out += R"(,"choices":[)";
  return out;
}

void append_choice(
    const AnswerIdentity& identity,
    const TokenNames& names,
    const ChoiceView& choice,
    std::string& out
) {
  out += fmt::format(R"({{"index":{})", choice.index);
  append_content(identity, choice, out);
  append_scores(identity, names, choice, out);
  if (choice.token_ids) out += fmt::format(R"(,"token_ids":[{}])", fmt::join(choice.ids, ","));
  if (choice.finish_reason == nullptr) {
    out += R"(,"finish_reason":null})";
    return;
  }
  out += fmt::format(
      R"(,"finish_reason":"{}","stop_reason":{}}})", *choice.finish_reason, choice.stop_reason_json
  );
}

void append_suffix(UsageForm form, const Usage& usage, std::string& out) {
  switch (form) {
    case UsageForm::Absent:
      out += "]}";
      return;
    case UsageForm::Null:
      out += R"(],"usage":null})";
      return;
    case UsageForm::Totals:
      break;
  }
  out += fmt::format(
      R"(],"usage":{{"prompt_tokens":{},"completion_tokens":{},"total_tokens":{},)"
      R"("prompt_tokens_details":{{"cached_tokens":{}}}}}}})",
      usage.prompt_tokens,
      usage.completion_tokens,
      usage.prompt_tokens + usage.completion_tokens,
      usage.cached_tokens
  );
}

}  // namespace pleiad::server
