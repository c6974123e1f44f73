#include "server/openai_service.h"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/core.h>

#include "base/philox.h"
#include "base/random.h"
#include "net/url.h"

namespace pleiad::server {
namespace {

constexpr std::string_view kModelPrefix = "/v1/models/";
constexpr std::string_view kChatPath = "/v1/chat/completions";
constexpr std::string_view kCompletionPath = "/v1/completions";
constexpr std::string_view kNoRoute = "other";

// Four random words of one request.
std::array<std::uint32_t, 4> draw(std::uint64_t number, std::uint64_t salt) {
  return philox4x32(
      {static_cast<std::uint32_t>(number), static_cast<std::uint32_t>(number >> 32U), 0, 0},
      {static_cast<std::uint32_t>(salt), static_cast<std::uint32_t>(salt >> 32U)}
  );
}

// The client's own request id when it is of a sensible length, else ours.
std::string
request_id_of(const net::HttpRequest& request, std::uint64_t number, std::uint64_t salt) {
  constexpr std::size_t kIdBytesMax = 128;
  const auto given = request.headers.find("x-request-id");
  const bool usable = given && !given->empty() && given->size() <= kIdBytesMax;
  if (usable) return std::string(*given);
  return fmt::format("req-{:08x}{:x}", draw(number, salt)[0], number);
}

// Headers say more than the body. Sessions of different keys are different ones.
void take_wishes(ClientWishes wishes, CompletionSession::Parts& parts) {
  api::Arrival& arrival = parts.arrival;
  CompletionRequest& request = parts.request;
  if (wishes.priority) request.priority = *wishes.priority;
  if (wishes.priority || request.prioritised) arrival.priority = request.priority;
  arrival.priority_class = std::move(wishes.priority_class);
  arrival.patience = wishes.patience;
  if (!wishes.session.empty()) request.session = std::move(wishes.session);
  if (!request.session.empty()) request.session.insert(0, arrival.key + '\n');
}

}  // namespace

OpenaiService::OpenaiService(ServiceParts parts, ServiceOptions options)
    : parts_(parts),
      options_(std::move(options)),
      keys_(options_.api_keys),
      info_(
          *parts.generator,
          *parts.metrics,
          *parts.clock,
          {
              .model_names = options_.model_names,
              .version = options_.version,
              .stuck_seconds = options_.stuck_seconds,
              .why_not_ready = options_.why_not_ready,
              .other_metrics = options_.other_metrics,
          }
      ),
      intake_(
          *parts.generator,
          *parts.text,
          *parts.clock,
          {
              .model_names = options_.model_names,
              .default_sampling = options_.default_sampling,
          }
      ),
      inbox_(*parts.loop, [this](InboxEvent& event) { on_event(event); }),
      salt_(entropy_seed()) {}

const std::vector<OpenaiService::Route>& OpenaiService::routes() {
  using S = OpenaiService;
  static const std::vector<Route> table = {
      {"/health", "GET", Access::Public, &S::take_health},
      {"/live", "GET", Access::Public, &S::take_live},
      {"/ready", "GET", Access::Public, &S::take_ready},
      {"/version", "GET", Access::Key, &S::take_version},
      {"/metrics", "GET", Access::Key, &S::take_metrics},
      {"/ep", "GET", Access::Key, &S::take_ep},
      {"/v1/models", "GET", Access::Key, &S::take_models},
      {kModelPrefix, "GET", Access::Key, &S::take_model},
      {kChatPath, "POST", Access::Key, &S::take_chat},
      {kCompletionPath, "POST", Access::Key, &S::take_completion},
      {"/tokenize", "POST", Access::Key, &S::take_tokenize},
      {"/detokenize", "POST", Access::Key, &S::take_detokenize},
  };
  return table;
}

const OpenaiService::Route* OpenaiService::route_of(std::string_view path) {
  // What stands behind the prefix is a model's name; nothing there is no route.
  const bool names_model = path.starts_with(kModelPrefix) && path != kModelPrefix;
  if (path == kModelPrefix) return nullptr;
  const std::string_view wanted = names_model ? kModelPrefix : path;
  const auto found = std::ranges::find(routes(), wanted, &Route::path);
  return found == routes().end() ? nullptr : &*found;
}

std::variant<OpenaiService::Admitted, ApiError> OpenaiService::admit(const net::HttpRequest& request
) const {
  const Route* route = route_of(request.path);
  // Who may not come in does not learn what there is.
  const bool open = route != nullptr && route->access == Access::Public;
  const auto key = keys_.identify(request.headers.find("Authorization").value_or(""));
  if (!open && !key) {
    return ApiError{
        .status = 401,
        .message = "missing or wrong API key; send it as Authorization: Bearer KEY",
        .code = "invalid_api_key",
    };
  }
  if (route == nullptr) return ApiError{.status = 404, .message = "there is no such route"};
  const bool head = request.method == "HEAD" && route->method == "GET";
  if (request.method != route->method && !head) {
    return ApiError{
        .status = 405, .message = fmt::format("this route takes {} only", route->method)};
  }
  return Admitted{route, std::string(key.value_or(""))};
}

void OpenaiService::handle(net::HttpRequest request, std::unique_ptr<net::Responder> responder) {
  Call call{
      .request = std::move(request),
      .responder = std::move(responder),
      .route = kNoRoute,
      .number = next_number_++,
      .request_id = {},
      .key = {},
  };
  call.request_id = request_id_of(call.request, call.number, salt_);
  const auto admitted = admit(call.request);
  if (const auto* error = std::get_if<ApiError>(&admitted)) {
    refuse(call, *error);
    return;
  }
  const auto& [route_taken, key] = std::get<Admitted>(admitted);
  const Route& route = *route_taken;
  call.route = route.path;
  call.key = key;
  (this->*route.take)(std::move(call));
}

void OpenaiService::take_models(Call call) {
  answer(call, info_.models());
}

void OpenaiService::take_model(Call call) {
  const auto name =
      net::decode_percent(std::string_view(call.request.path).substr(kModelPrefix.size()));
  if (!name.ok()) {
    refuse(call, {.message = name.error().message});
  } else if (const auto error = intake_.check_model(*name)) {
    refuse(call, *error);
  } else {
    answer(call, info_.model(*name));
  }
}

void OpenaiService::take_live(Call call) {
  answer(call, info_.live());
}

void OpenaiService::take_health(Call call) {
  answer(call, info_.health());
}

void OpenaiService::take_ready(Call call) {
  answer(call, info_.ready(draining_));
}

void OpenaiService::take_version(Call call) {
  answer(call, info_.version());
}

void OpenaiService::take_ep(Call call) {
  if (!options_.ep_report) {
    refuse(call, {.status = 404, .message = "this model has no experts on ranks"});
    return;
  }
  answer(call, json_response(options_.ep_report()));
}

void OpenaiService::take_metrics(Call call) {
  answer(call, info_.metrics());
}

void OpenaiService::take_chat(Call call) {
  begin_completion(Endpoint::Chat, std::move(call));
}

void OpenaiService::take_completion(Call call) {
  begin_completion(Endpoint::Completion, std::move(call));
}

void OpenaiService::take_tokenize(Call call) {
  begin_text_work(std::move(call), &RequestIntake::tokenize);
}

void OpenaiService::take_detokenize(Call call) {
  begin_text_work(std::move(call), &RequestIntake::detokenize);
}

void OpenaiService::answer(const Call& call, net::HttpResponse response) const {
  count(call.route, response.status);
  response.headers.add("x-request-id", call.request_id);
  call.responder->respond(response);
}

void OpenaiService::refuse(const Call& call, const ApiError& error) const {
  net::HttpResponse response = error_response(error, draw(call.number, salt_)[3]);
  if (error.status == 405) {
    const bool get = route_of(call.request.path)->method == "GET";
    response.headers.add("Allow", get ? "GET, HEAD" : "POST");
  }
  answer(call, std::move(response));
}

void OpenaiService::prepare(Call call, net::UniqueFunction<void(Call call)> work) {
  const auto bytes = static_cast<std::int64_t>(call.request.body.size());
  if (draining_) {
    refuse(call, from_error(unavailable("the server is draining")));
    return;
  }
  if (preparing_.load() >= options_.preparing_max ||
      preparing_bytes_.load() + bytes > options_.preparing_bytes_max) {
    refuse(call, from_error(exhausted("{} requests are being read already", preparing_.load())));
    return;
  }
  preparing_.fetch_add(1);
  preparing_bytes_.fetch_add(bytes);
  parts_.text_loop->post([this, bytes, call = std::move(call), work = std::move(work)]() mutable {
    work(std::move(call));
    preparing_bytes_.fetch_sub(bytes);
  });
}

void OpenaiService::begin_text_work(
    Call call,
    std::variant<Json, ApiError> (RequestIntake::*work)(const net::HttpRequest&) const
) {
  prepare(std::move(call), [this, work](Call taken) {
    const auto result = (intake_.*work)(taken.request);
    if (const auto* error = std::get_if<ApiError>(&result)) {
      refuse(taken, *error);
    } else {
      answer(taken, json_response(std::get<Json>(result)));
    }
    preparing_.fetch_sub(1);
  });
}

void OpenaiService::begin_completion(Endpoint endpoint, Call call) {
  prepare(std::move(call), [this, endpoint](Call taken) { complete(endpoint, std::move(taken)); });
}

void OpenaiService::complete(Endpoint endpoint, Call call) {
  auto wishes = read_client_wishes(call.request.headers);
  const auto* wrong = std::get_if<ApiError>(&wishes);
  auto accepted = wrong == nullptr ? intake_.completion(endpoint, call.request)
                                   : std::variant<AcceptedCompletion, ApiError>(*wrong);
  if (const auto* error = std::get_if<ApiError>(&accepted)) {
    refuse(call, *error);
    preparing_.fetch_sub(1);
    return;
  }
  auto parts =
      session_parts(endpoint, std::get<AcceptedCompletion>(std::move(accepted)), std::move(call));
  take_wishes(std::get<ClientWishes>(std::move(wishes)), parts);
  parts_.loop->post([this, parts = std::move(parts)]() mutable {
    open_session(std::move(parts));
    preparing_.fetch_sub(1);
  });
}

CompletionSession::Parts
OpenaiService::session_parts(Endpoint endpoint, AcceptedCompletion accepted, Call call) {
  const auto words = draw(call.number, salt_);
  if (!accepted.request.seeded) {
    accepted.request.sampling.seed = std::uint64_t{words[1]} << 32U | words[2];
  }
  const std::string_view kind = endpoint == Endpoint::Chat ? "chatcmpl" : "cmpl";
  const std::string& name = accepted.request.model;
  AnswerIdentity identity{
      .endpoint = endpoint,
      .id = fmt::format("{}-{:08x}{:016x}", kind, words[0], call.number),
      .model = name.empty() ? options_.model_names.front() : name,
      .created = parts_.clock->unix_seconds(),
      .stream = accepted.request.stream,
  };
  return {
      .generator = parts_.generator,
      .gate = parts_.gate,
      .loop = parts_.loop,
      .inbox = &inbox_,
      .text = parts_.text,
      .identity = std::move(identity),
      .request = std::move(accepted.request),
      .prompts = std::move(accepted.prompts),
      .arrival = {.key = std::move(call.key), .output_bounded = accepted.output_bounded},
      .responder = std::move(call.responder),
      .request_id = std::move(call.request_id),
      .retry_spread = words[3],
      .keep_alive = options_.keep_alive,
      .on_settled = [this](CompletionSession& session) { close_if_done(session); },
  };
}

void OpenaiService::open_session(CompletionSession::Parts parts) {
  auto session = std::make_unique<CompletionSession>(std::move(parts));
  CompletionSession& opened = *session;
  sessions_.emplace(&opened, std::move(session));
  opened.start();
  close_if_done(opened);
}

void OpenaiService::on_event(InboxEvent& event) {
  event.session->on_event(event);
  close_if_done(*event.session);
}

void OpenaiService::close_if_done(CompletionSession& session) {
  if (!session.done()) return;
  count(session.endpoint() == Endpoint::Chat ? kChatPath : kCompletionPath, session.status());
  session.leave_gate();  // others may begin meanwhile, and end
  sessions_.erase(&session);
}

void OpenaiService::count(std::string_view route, int status) const {
  parts_.metrics
      ->counter(
          "pleiad_http_requests_total",
          "HTTP requests by route and by the status they ended with; 499: the client went away",
          {{"route", std::string(route)}, {"code", std::to_string(status)}}
      )
      .add();
}

}  // namespace pleiad::server
