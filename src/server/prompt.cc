#include "server/prompt.h"

#include <utility>

namespace pleiad::server {
namespace {

std::variant<PreparedPrompt, ApiError>
prepare_text(const std::string& prompt, const CompletionRequest& request, const ModelText& text) {
  if (!text.tokenizer) {
    return bad_parameter(
        "prompt", "this server has no tokenizer: prompts must be lists of token ids"
    );
  }
  auto tokens = text.tokenizer->encode(prompt, {.add_special_tokens = request.add_special_tokens});
  if (!tokens.ok()) return bad_parameter("prompt", tokens.error().message);
  return PreparedPrompt{.tokens = *std::move(tokens), .text = prompt};
}

std::variant<PreparedPrompt, ApiError> prepare_ids(
    const std::vector<TokenId>& ids,
    const CompletionRequest& request,
    const ModelText& text
) {
  PreparedPrompt out{.tokens = ids, .text = {}};
  if (request.echo && text.tokenizer) {
    auto decoded = text.tokenizer->decode(ids);
    if (!decoded.ok()) return bad_parameter("prompt", decoded.error().message);
    out.text = *std::move(decoded);
  }
  return out;
}

std::optional<std::string> if_any(const std::string& token) {
  return token.empty() ? std::nullopt : std::optional(token);
}

std::variant<PreparedPrompt, ApiError> prepare_chat(
    const CompletionRequest& request,
    const ModelText& text,
    std::chrono::sys_seconds date
) {
  if (!text.tokenizer || !text.chat_template) {
    return ApiError{.message = "the served model has no chat template; use /v1/completions"};
  }
  const bool with_tools = text.tool_template && !request.tools.is_null();
  const text::ChatTemplate& chat = with_tools ? *text.tool_template : *text.chat_template;
  auto rendered = chat.render({
      .messages = request.messages,
      .tools = request.tools,
      .add_generation_prompt = request.add_generation_prompt,
      .extra = request.template_arguments,
      .bos_token = if_any(text.bos_token),
      .eos_token = if_any(text.eos_token),
      .date = date,
  });
  if (!rendered.ok()) return bad_parameter("messages", rendered.error().message);
  auto tokens = text.tokenizer->encode(
      rendered->text, {.add_special_tokens = false, .untrusted = rendered->untrusted}
  );
  if (!tokens.ok()) return bad_parameter("messages", tokens.error().message);
  return PreparedPrompt{.tokens = *std::move(tokens), .text = std::move(rendered->text)};
}

}  // namespace

std::variant<std::vector<PreparedPrompt>, ApiError> prepare_prompts(
    const CompletionRequest& request,
    const ModelText& text,
    std::chrono::sys_seconds date
) {
  std::vector<PreparedPrompt> out;
  if (request.endpoint == Endpoint::Chat) {
    auto chat = prepare_chat(request, text, date);
    if (auto* error = std::get_if<ApiError>(&chat)) return std::move(*error);
    out.push_back(std::get<PreparedPrompt>(std::move(chat)));
    return out;
  }
  for (const PromptSource& source : request.prompts) {
    const auto* ids = std::get_if<std::vector<TokenId>>(&source);
    auto prepared = ids != nullptr ? prepare_ids(*ids, request, text)
                                   : prepare_text(std::get<std::string>(source), request, text);
    if (auto* error = std::get_if<ApiError>(&prepared)) return std::move(*error);
    out.push_back(std::get<PreparedPrompt>(std::move(prepared)));
  }
  return out;
}

}  // namespace pleiad::server
