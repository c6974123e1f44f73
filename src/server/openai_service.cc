#include "server/openai_service.h"

#include <algorithm>
#include <utility>

#include <fmt/core.h>

#include "base/philox.h"
#include "base/random.h"
#include "net/url.h"
#include "server/field_reader.h"

namespace pleiad::server {
namespace {

constexpr std::string_view kModelPrefix = "/v1/models/";

net::HttpResponse json_response(const Json& body, int status = 200) {
  net::HttpResponse response{.status = status, .body = body.dump()};
  response.headers.add("Content-Type", "application/json");
  return response;
}

// The client's own request id when it can stand in a header, else ours.
std::string request_id_of(const net::HttpRequest& request, std::string_view fallback) {
  constexpr std::size_t kIdBytesMax = 128;
  const auto given = request.headers.find("x-request-id");
  const bool usable = given && !given->empty() && given->size() <= kIdBytesMax;
  return std::string(usable ? *given : fallback);
}

bool is_json(const net::HttpRequest& request) {
  const auto type = request.headers.find("Content-Type");
  if (!type || type->empty()) return true;  // curl -d and old clients leave it out or guess
  const std::string_view media = type->substr(0, type->find(';'));
  return net::equals_ignoring_case(
      media.substr(0, media.find_last_not_of(' ') + 1), "application/json"
  );
}

}  // namespace

OpenaiService::OpenaiService(ServiceParts parts, ServiceOptions options)
    : parts_(parts),
      options_(std::move(options)),
      keys_(options_.api_keys),
      inbox_(*parts.loop, [this](InboxEvent& event) { on_event(event); }),
      created_(parts.clock->unix_seconds()),
      id_salt_(entropy_seed()) {
  PLEIAD_CHECK(!options_.model_names.empty());
}

const std::vector<OpenaiService::Route>& OpenaiService::routes() {
  using S = OpenaiService;
  static const std::vector<Route> table = {
      {"/health", "GET", Access::Public, &S::health, nullptr},
      {"/live", "GET", Access::Public, &S::live, nullptr},
      {"/ready", "GET", Access::Public, &S::ready, nullptr},
      {"/version", "GET", Access::Key, &S::version, nullptr},
      {"/metrics", "GET", Access::Key, &S::metrics, nullptr},
      {"/v1/models", "GET", Access::Key, &S::models, nullptr},
      {kModelPrefix, "GET", Access::Key, &S::model, nullptr},
      {"/v1/chat/completions", "POST", Access::Key, nullptr, &S::chat},
      {"/v1/completions", "POST", Access::Key, nullptr, &S::completion},
      {"/tokenize", "POST", Access::Key, nullptr, &S::tokenize},
      {"/detokenize", "POST", Access::Key, nullptr, &S::detokenize},
  };
  return table;
}

const OpenaiService::Route*
OpenaiService::find_route(const net::HttpRequest& request, ApiError& error) const {
  const auto& table = routes();
  const auto found = std::ranges::find_if(table, [&](const Route& route) {
    return route.path == kModelPrefix ? request.path.starts_with(kModelPrefix)
                                      : request.path == route.path;
  });
  // Who may not come in does not learn what there is.
  const bool open = found != table.end() && found->access == Access::Public;
  const auto authorization = request.headers.find("Authorization").value_or("");
  if (!open && !keys_.admits(authorization)) {
    error = {
        .status = 401,
        .message = "missing or wrong API key; send it as Authorization: Bearer KEY",
        .code = "invalid_api_key",
    };
    return nullptr;
  }
  if (found == table.end()) {
    error = {.status = 404, .message = "there is no such route"};
    return nullptr;
  }
  const bool head = request.method == "HEAD" && found->method == "GET";
  if (request.method != found->method && !head) {
    error = {.status = 405, .message = fmt::format("this route takes {} only", found->method)};
    error.param = std::string(found->method);
    return nullptr;
  }
  return &*found;
}

void OpenaiService::handle(net::HttpRequest request, std::unique_ptr<net::Responder> responder) {
  ApiError error;
  const Route* route = find_route(request, error);
  if (route == nullptr) {
    count("other", error.status);
    const std::string allow = error.status == 405 ? *std::exchange(error.param, std::nullopt) : "";
    Answer answer = error_response(error);
    if (!allow.empty()) answer.headers.add("Allow", allow);
    responder->respond(std::move(answer));
    return;
  }
  if (route->begin != nullptr) {
    count(route->path, 0);
    (this->*route->begin)(std::move(request), std::move(responder));
    return;
  }
  Answer answer = (this->*route->answer)(request);
  count(route->path, answer.status);
  responder->respond(std::move(answer));
}

void OpenaiService::count(std::string_view route, int status) {
  const std::string code = status == 0 ? "accepted" : std::to_string(status);
  parts_.metrics
      ->counter(
          "pleiad_http_requests_total",
          "HTTP requests by route, with the status of those answered at once",
          {{"route", std::string(route)}, {"code", code}}
      )
      .add();
}

Json OpenaiService::model_json(const std::string& name) const {
  Json out;
  out.set("id", name);
  out.set("object", "model");
  out.set("created", created_);
  out.set("owned_by", "pleiad");
  out.set("root", options_.model_names.front());
  out.set("max_model_len", parts_.generator->limits().model_tokens_max);
  return out;
}

OpenaiService::Answer OpenaiService::models(const net::HttpRequest& /*request*/) {
  JsonArray list;
  for (const std::string& name : options_.model_names)
    list.push_back(model_json(name));
  Json body;
  body.set("object", "list");
  body.set("data", std::move(list));
  return json_response(body);
}

OpenaiService::Answer OpenaiService::model(const net::HttpRequest& request) {
  const auto name = net::decode_percent(std::string_view(request.path).substr(kModelPrefix.size()));
  if (!name.ok()) return error_response({.message = name.error().message});
  if (auto error = check_model(*name)) return error_response(*error);
  return json_response(model_json(*name));
}

OpenaiService::Answer OpenaiService::live(const net::HttpRequest& /*request*/) {
  Json body;
  body.set("status", "live");
  return json_response(body);
}

OpenaiService::Answer OpenaiService::health(const net::HttpRequest& /*request*/) {
  const double idle_seconds = parts_.generator->status().seconds_since_progress;
  Json body;
  const bool healthy = idle_seconds < options_.stuck_seconds;
  body.set("status", healthy ? "healthy" : "stuck");
  if (!healthy) body.set("seconds_since_progress", idle_seconds);
  return json_response(body, healthy ? 200 : 503);
}

OpenaiService::Answer OpenaiService::ready(const net::HttpRequest& /*request*/) {
  const api::GeneratorStatus status = parts_.generator->status();
  std::string state = "ready";
  if (draining_ || !status.accepting) state = "draining";
  if (status.seconds_since_progress >= options_.stuck_seconds) state = "stuck";
  Json body;
  body.set("status", state);
  body.set("running", status.running);
  body.set("waiting", status.waiting);
  return json_response(body, state == "ready" ? 200 : 503);
}

OpenaiService::Answer OpenaiService::version(const net::HttpRequest& /*request*/) {
  Json body;
  body.set("version", options_.version);
  return json_response(body);
}

OpenaiService::Answer OpenaiService::metrics(const net::HttpRequest& /*request*/) {
  net::HttpResponse response{.status = 200, .body = parts_.metrics->render()};
  response.headers.add("Content-Type", "text/plain; version=0.0.4; charset=utf-8");
  return response;
}

void OpenaiService::chat(net::HttpRequest request, std::unique_ptr<net::Responder> responder) {
  begin_completion(Endpoint::Chat, std::move(request), std::move(responder));
}

void OpenaiService::completion(
    net::HttpRequest request,
    std::unique_ptr<net::Responder> responder
) {
  begin_completion(Endpoint::Completion, std::move(request), std::move(responder));
}

void OpenaiService::tokenize(net::HttpRequest request, std::unique_ptr<net::Responder> responder) {
  begin_text_work(std::move(request), std::move(responder), &OpenaiService::tokenize_body);
}

void OpenaiService::detokenize(
    net::HttpRequest request,
    std::unique_ptr<net::Responder> responder
) {
  begin_text_work(std::move(request), std::move(responder), &OpenaiService::detokenize_body);
}

bool OpenaiService::enter_text_loop(net::Responder& responder) {
  std::optional<Error> refusal;
  if (draining_) {
    refusal = unavailable("the server is draining");
  } else if (preparing_.load() >= options_.preparing_max) {
    refusal = exhausted("{} requests are being read already", options_.preparing_max);
  }
  if (refusal) {
    responder.respond(error_response(from_error(*refusal)));
    return false;
  }
  preparing_.fetch_add(1);
  return true;
}

void OpenaiService::begin_text_work(
    net::HttpRequest request,
    std::unique_ptr<net::Responder> responder,
    std::variant<Answer, ApiError> (OpenaiService::*work)(const net::HttpRequest&) const
) {
  if (!enter_text_loop(*responder)) return;
  parts_.text_loop->post(
      [this, work, request = std::move(request), responder = std::move(responder)]() mutable {
        auto answer = (this->*work)(request);
        auto* error = std::get_if<ApiError>(&answer);
        responder->respond(
            error != nullptr ? error_response(*error) : std::get<Answer>(std::move(answer))
        );
        preparing_.fetch_sub(1);
      }
  );
}

void OpenaiService::begin_completion(
    Endpoint endpoint,
    net::HttpRequest request,
    std::unique_ptr<net::Responder> responder
) {
  if (!enter_text_loop(*responder)) return;
  parts_.text_loop->post(
      [this, endpoint, request = std::move(request), responder = std::move(responder)]() mutable {
        auto prepared = prepare(endpoint, request);
        if (const auto* error = std::get_if<ApiError>(&prepared)) {
          responder->respond(error_response(*error));
          preparing_.fetch_sub(1);
          return;
        }
        auto& parts = std::get<CompletionSession::Parts>(prepared);
        parts.responder = std::move(responder);
        parts_.loop->post([this, parts = std::move(parts)]() mutable {
          open_session(std::move(parts));
          preparing_.fetch_sub(1);
        });
      }
  );
}

void OpenaiService::open_session(CompletionSession::Parts parts) {
  auto session = std::make_unique<CompletionSession>(std::move(parts));
  CompletionSession* key = session.get();
  sessions_.emplace(key, std::move(session));
  key->start();
  if (key->done()) sessions_.erase(key);
}

void OpenaiService::on_event(InboxEvent& event) {
  event.session->on_event(event);
  if (event.session->done()) sessions_.erase(event.session);
}

std::variant<Json, ApiError> OpenaiService::parse_body(const net::HttpRequest& request) const {
  if (!is_json(request)) {
    return ApiError{.status = 415, .message = "Content-Type must be application/json"};
  }
  auto body = parse_json(request.body);
  if (!body.ok()) return ApiError{.message = body.error().message};
  if (!body->is_object()) return ApiError{.message = "the request body must be a JSON object"};
  return *std::move(body);
}

std::variant<CompletionSession::Parts, ApiError>
OpenaiService::prepare(Endpoint endpoint, const net::HttpRequest& request) {
  auto body = parse_body(request);
  if (auto* error = std::get_if<ApiError>(&body)) return std::move(*error);
  auto parsed = parse_completion_request(endpoint, std::get<Json>(body), rules());
  if (auto* error = std::get_if<ApiError>(&parsed)) return std::move(*error);
  CompletionSession::Parts parts;
  parts.request = std::get<CompletionRequest>(std::move(parsed));
  if (auto error = check_model(parts.request.model)) return *std::move(error);
  auto prompts = prepare_prompts(parts.request, *parts_.text);
  if (auto* error = std::get_if<ApiError>(&prompts)) return std::move(*error);
  parts.prompts = std::get<std::vector<PreparedPrompt>>(std::move(prompts));
  if (auto error = check_lengths(parts.request, parts.prompts)) return *std::move(error);

  const std::uint64_t number = next_id_.fetch_add(1);
  const auto words = philox4x32(
      {static_cast<std::uint32_t>(number), static_cast<std::uint32_t>(number >> 32U), 0, 0},
      {static_cast<std::uint32_t>(id_salt_), static_cast<std::uint32_t>(id_salt_ >> 32U)}
  );
  if (!parts.request.seeded) {
    parts.request.sampling.seed = std::uint64_t{words[2]} << 32U | words[3];
  }
  const std::string unique = fmt::format("{:08x}{:08x}{:08x}", words[0], words[1], words[2]);
  parts.generator = parts_.generator;
  parts.inbox = &inbox_;
  parts.text = parts_.text;
  parts.identity = {
      .endpoint = endpoint,
      .id = (endpoint == Endpoint::Chat ? "chatcmpl-" : "cmpl-") + unique,
      .model = parts.request.model.empty() ? options_.model_names.front() : parts.request.model,
      .created = parts_.clock->unix_seconds(),
      .stream = parts.request.stream,
  };
  parts.request_id = request_id_of(request, parts.identity.id);
  return parts;
}

RequestRules OpenaiService::rules() const {
  const api::GeneratorLimits limits = parts_.generator->limits();
  return {
      .vocabulary = limits.vocabulary,
      .model_tokens_max = limits.model_tokens_max,
      .default_sampling = options_.default_sampling,
  };
}

std::optional<ApiError> OpenaiService::check_model(const std::string& name) const {
  if (name.empty() || std::ranges::find(options_.model_names, name) != options_.model_names.end()) {
    return std::nullopt;
  }
  return ApiError{
      .status = 404,
      .message = fmt::format(
          "there is no such model here; this server has {}", options_.model_names.front()
      ),
      .param = "model",
      .code = "model_not_found",
  };
}

// Gives max_tokens its default, and refuses what the context cannot hold.
std::optional<ApiError> OpenaiService::check_lengths(
    CompletionRequest& request,
    const std::vector<PreparedPrompt>& prompts
) const {
  const std::int64_t context = parts_.generator->limits().model_tokens_max;
  const std::string_view param = request.endpoint == Endpoint::Chat ? "messages" : "prompt";
  std::int64_t longest = 0;
  for (const PreparedPrompt& prompt : prompts) {
    if (prompt.tokens.empty()) return bad_parameter(param, "the prompt has no tokens");
    longest = std::max(longest, static_cast<std::int64_t>(prompt.tokens.size()));
  }
  constexpr std::int64_t kCompletionDefault = 16;
  const std::int64_t fallback = request.endpoint == Endpoint::Chat
                                    ? std::max<std::int64_t>(context - longest, 1)
                                    : kCompletionDefault;
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
  request.max_tokens = static_cast<std::int32_t>(wanted);
  return std::nullopt;
}

std::variant<OpenaiService::Answer, ApiError> OpenaiService::tokenize_body(
    const net::HttpRequest& request
) const {
  auto body = parse_body(request);
  if (auto* error = std::get_if<ApiError>(&body)) return std::move(*error);
  const bool chat = std::get<Json>(body).find("messages") != nullptr;
  auto parsed = parse_completion_request(
      chat ? Endpoint::Chat : Endpoint::Completion, std::get<Json>(body), rules()
  );
  if (auto* error = std::get_if<ApiError>(&parsed)) return std::move(*error);
  const auto& wanted = std::get<CompletionRequest>(parsed);
  if (auto error = check_model(wanted.model)) return *std::move(error);
  auto prompts = prepare_prompts(wanted, *parts_.text);
  if (auto* error = std::get_if<ApiError>(&prompts)) return std::move(*error);
  const auto& tokens = std::get<std::vector<PreparedPrompt>>(prompts).front().tokens;
  JsonArray ids;
  ids.reserve(tokens.size());
  for (const TokenId token : tokens)
    ids.emplace_back(static_cast<std::int64_t>(token));
  Json out;
  out.set("count", static_cast<std::int64_t>(tokens.size()));
  out.set("max_model_len", parts_.generator->limits().model_tokens_max);
  out.set("tokens", std::move(ids));
  return json_response(out);
}

std::variant<OpenaiService::Answer, ApiError> OpenaiService::detokenize_body(
    const net::HttpRequest& request
) const {
  auto body = parse_body(request);
  if (auto* error = std::get_if<ApiError>(&body)) return std::move(*error);
  if (!parts_.text->tokenizer) return ApiError{.message = "this server has no tokenizer"};
  const Json* tokens = std::get<Json>(body).find("tokens");
  const JsonArray* list = tokens == nullptr ? nullptr : tokens->as_array();
  if (list == nullptr) return bad_parameter("tokens", "tokens must be a list of token ids");
  std::vector<TokenId> ids;
  ids.reserve(list->size());
  const std::int64_t vocabulary = parts_.generator->limits().vocabulary;
  for (const Json& item : *list) {
    const auto id = item.as_int();
    if (!id || *id < 0 || *id >= vocabulary) {
      return bad_parameter(
          "tokens", fmt::format("tokens must hold token ids from 0 to {}", vocabulary - 1)
      );
    }
    ids.push_back(static_cast<TokenId>(*id));
  }
  auto text = parts_.text->tokenizer->decode(ids);
  if (!text.ok()) return bad_parameter("tokens", text.error().message);
  Json out;
  out.set("prompt", *std::move(text));
  return json_response(out);
}

}  // namespace pleiad::server
