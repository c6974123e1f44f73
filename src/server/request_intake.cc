#include "server/request_intake.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <string_view>
#include <utility>

#include <fmt/core.h>

#include "base/check.h"

namespace pleiad::server {
namespace {

// A missing type is taken for JSON.
bool is_json(const net::HttpRequest& request) {
  const auto type = request.headers.find("Content-Type");
  if (!type || type->empty()) return true;
  const std::string_view media = type->substr(0, type->find(';'));
  return net::equals_ignoring_case(
      media.substr(0, media.find_last_not_of(" \t") + 1), "application/json"
  );
}

std::variant<Json, ApiError> parse_body(const net::HttpRequest& request) {
  if (!is_json(request)) {
    return ApiError{.status = 415, .message = "Content-Type must be application/json"};
  }
  const auto encoding = request.headers.find("Content-Encoding");
  if (encoding && !net::equals_ignoring_case(*encoding, "identity")) {
    return ApiError{.status = 415, .message = "compressed bodies are not read"};
  }
  auto body = parse_json(request.body);
  if (!body.ok()) return ApiError{.message = body.error().message};
  if (!body->is_object()) return ApiError{.message = "the request body must be a JSON object"};
  return *std::move(body);
}

}  // namespace

RequestIntake::RequestIntake(
    const api::Generator& generator,
    const ModelText& text,
    const Clock& clock,
    IntakeOptions options
)
    : generator_(generator), text_(text), clock_(clock), options_(std::move(options)) {
  PLEIAD_CHECK(!options_.model_names.empty());
}

std::variant<AcceptedCompletion, ApiError>
RequestIntake::completion(Endpoint endpoint, const net::HttpRequest& request) const {
  auto body = parse_body(request);
  if (auto* error = std::get_if<ApiError>(&body)) return std::move(*error);
  return accept(endpoint, std::get<Json>(body));
}

std::variant<AcceptedCompletion, ApiError> RequestIntake::completion_of_either(
    const net::HttpRequest& request
) const {
  auto body = parse_body(request);
  if (auto* error = std::get_if<ApiError>(&body)) return std::move(*error);
  const Json& json = std::get<Json>(body);
  return accept(json.find("messages") != nullptr ? Endpoint::Chat : Endpoint::Completion, json);
}

std::variant<AcceptedCompletion, ApiError>
RequestIntake::accept(Endpoint endpoint, const Json& body) const {
  auto out = read(endpoint, body);
  if (auto* completion = std::get_if<AcceptedCompletion>(&out)) {
    if (auto error = settle_lengths(*completion)) return *std::move(error);
  }
  return out;
}

std::variant<AcceptedCompletion, ApiError> RequestIntake::read(Endpoint endpoint, const Json& body)
    const {
  auto parsed = parse_completion_request(
      endpoint,
      body,
      {
          .vocabulary = generator_.limits().vocabulary,
          .default_sampling = options_.default_sampling,
      }
  );
  if (auto* error = std::get_if<ApiError>(&parsed)) return std::move(*error);
  AcceptedCompletion out{.request = std::get<CompletionRequest>(std::move(parsed)), .prompts = {}};
  if (auto error = check_model(out.request.model)) return *std::move(error);
  if (!text_.tokenizer && !out.request.stop.empty()) {
    return bad_parameter("stop", "this server has no tokenizer: use stop_token_ids");
  }
  const std::chrono::sys_seconds date{std::chrono::seconds{clock_.unix_seconds()}};
  auto prompts = prepare_prompts(out.request, text_, date);
  if (auto* error = std::get_if<ApiError>(&prompts)) return std::move(*error);
  out.prompts = std::get<std::vector<PreparedPrompt>>(std::move(prompts));
  return out;
}

std::optional<ApiError> RequestIntake::check_model(const std::string& name) const {
  const auto& names = options_.model_names;
  if (name.empty() || std::ranges::find(names, name) != names.end()) return std::nullopt;
  return ApiError{
      .status = 404,
      .message = fmt::format("there is no such model here; this server has {}", names.front()),
      .param = "model",
      .code = "model_not_found",
  };
}

// Gives max_tokens its default, and refuses what the context or the limit of one request cannot
// hold.
std::optional<ApiError> RequestIntake::settle_lengths(AcceptedCompletion& completion) const {
  CompletionRequest& request = completion.request;
  const bool chat = request.endpoint == Endpoint::Chat;
  const std::int64_t context = generator_.limits().model_tokens_max;
  const std::string_view param = chat ? "messages" : "prompt";
  std::int64_t longest = 0;
  for (const PreparedPrompt& prompt : completion.prompts) {
    if (prompt.tokens.empty()) return bad_parameter(param, "the prompt has no tokens");
    longest = std::max(longest, static_cast<std::int64_t>(prompt.tokens.size()));
  }
  constexpr std::int64_t kCompletionDefault = 16;
  const std::int64_t choices = static_cast<std::int64_t>(completion.prompts.size()) * request.n;
  // A router whose workers have told nothing yet refuses what it gets, and says why.
  const bool unknown = context >= std::numeric_limits<std::int32_t>::max();
  const std::int64_t fallback =
      chat && !unknown ? std::max<std::int64_t>(context - longest, 1) : kCompletionDefault;
  const std::int64_t wanted = request.max_tokens ? *request.max_tokens : fallback;
  if (longest + wanted > context) {
    ApiError error = bad_parameter(
        param,
        fmt::format(
            "this model's context is {} tokens; the prompt has {} and {} were to be generated",
            context,
            longest,
            wanted
        )
    );
    error.code = "context_length_exceeded";
    return error;
  }
  if (choices * wanted > options_.output_tokens_max) {
    return bad_parameter(
        "max_tokens",
        fmt::format(
            "{} choices of {} tokens; at most {} tokens in all are made",
            choices,
            wanted,
            options_.output_tokens_max
        )
    );
  }
  completion.output_bounded = request.max_tokens.has_value() || !chat;
  request.max_tokens = static_cast<std::int32_t>(wanted);
  return std::nullopt;
}

std::variant<Json, ApiError> RequestIntake::tokenize(const net::HttpRequest& request) const {
  auto body = parse_body(request);
  if (auto* error = std::get_if<ApiError>(&body)) return std::move(*error);
  const bool chat = std::get<Json>(body).find("messages") != nullptr;
  auto completion = read(chat ? Endpoint::Chat : Endpoint::Completion, std::get<Json>(body));
  if (auto* error = std::get_if<ApiError>(&completion)) return std::move(*error);
  const auto& prompts = std::get<AcceptedCompletion>(completion).prompts;
  if (prompts.size() != 1) return bad_parameter("prompt", "prompt must be one prompt");
  const auto& tokens = prompts.front().tokens;
  JsonArray ids;
  ids.reserve(tokens.size());
  for (const TokenId token : tokens) {
    ids.emplace_back(static_cast<std::int64_t>(token));
  }
  Json out;
  out.set("count", static_cast<std::int64_t>(tokens.size()));
  out.set("max_model_len", generator_.limits().model_tokens_max);
  out.set("tokens", std::move(ids));
  return out;
}

std::variant<Json, ApiError> RequestIntake::detokenize(const net::HttpRequest& request) const {
  auto body = parse_body(request);
  if (auto* error = std::get_if<ApiError>(&body)) return std::move(*error);
  if (!text_.tokenizer) return ApiError{.message = "this server has no tokenizer"};
  const Json* tokens = std::get<Json>(body).find("tokens");
  const JsonArray* list = tokens == nullptr ? nullptr : tokens->as_array();
  if (list == nullptr) return bad_parameter("tokens", "tokens must be a list of token ids");
  const auto ids = parse_token_ids(*list, generator_.limits().vocabulary);
  if (!ids.ok()) return bad_parameter("tokens", "tokens must " + ids.error().message);
  auto text = text_.tokenizer->decode(*ids);
  if (!text.ok()) return bad_parameter("tokens", text.error().message);
  Json out;
  out.set("prompt", *std::move(text));
  return out;
}

}  // namespace pleiad::server
