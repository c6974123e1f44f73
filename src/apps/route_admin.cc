#include "apps/route_admin.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include <fmt/core.h>

#include "base/spelling.h"
#include "net/url.h"
#include "server/client_wishes.h"
#include "server/server_info.h"

namespace pleiad::apps {
namespace {

constexpr std::string_view kWorkers = "/workers";
constexpr std::string_view kDrain = "/workers/drain";
constexpr std::string_view kUndrain = "/workers/undrain";
constexpr std::string_view kExplain = "/route/explain";

std::string_view methods_of(std::string_view path) {
  return path == kWorkers ? "GET, POST, DELETE" : "POST";
}

bool takes(std::string_view path, std::string_view method) {
  if (path == kWorkers) return method == "GET" || method == "POST" || method == "DELETE";
  return method == "POST";
}

// A worker that is meant.
struct Named {
  std::string url;
  std::optional<api::Role> role;
};

Result<Named> named_in(const Json& body) {
  constexpr std::array<std::string_view, 2> kKnown = {"url", "role"};
  const JsonObject* members = body.as_object();
  if (members == nullptr) return invalid_input("the body must be a JSON object");
  for (const auto& [key, value] : *members) {
    if (std::ranges::find(kKnown, key) != kKnown.end()) continue;
    return invalid_input(
        "{} is not known; nearest: {} (known: {})", key, nearest_word(key, kKnown), listed(kKnown)
    );
  }
  const Json* url = body.find("url");
  const std::string* text = url == nullptr ? nullptr : url->as_string();
  if (text == nullptr) {
    return invalid_input(R"(the body must be {{"url": "http://host:port"}} of a worker)");
  }
  Named out{.url = *text, .role = {}};
  const Json* role = body.find("role");
  if (role == nullptr) return out;
  const std::string* name = role->as_string();
  out.role = name == nullptr ? std::nullopt : api::parse_role(*name);
  if (!out.role) return invalid_input(R"(role must be "both", "prefill" or "decode")");
  return out;
}

// Of ?url=, or of the body.
Result<Named> worker_of(const net::HttpRequest& request) {
  if (!request.query.empty()) {
    PLEIAD_TRY(pairs, net::decode_query(request.query));
    if (pairs.size() == 1 && pairs.front().first == "url") {
      return Named{.url = pairs.front().second, .role = {}};
    }
    return invalid_input("the query takes url=http://host:port and nothing else");
  }
  constexpr std::size_t kBodyBytesMax = 4096;
  PLEIAD_TRY(body, parse_json(request.body, {.depth_max = 4, .bytes_max = kBodyBytesMax}));
  return named_in(body);
}

// The key whose sessions are meant, of ?key=.
std::string key_of(const net::HttpRequest& request) {
  const auto pairs = net::decode_query(request.query);
  if (!pairs.ok()) return "";
  const auto at = std::ranges::find(*pairs, "key", &std::pair<std::string, std::string>::first);
  return at == pairs->end() ? "" : at->second;
}

// Where a request would go that was read from such headers and such a body.
struct Explained {
  server::AcceptedCompletion accepted;
  std::string session;
};

std::variant<Explained, server::ApiError>
read_question(const server::RequestIntake& intake, const net::HttpRequest& request) {
  auto wishes = server::read_client_wishes(request.headers);
  if (auto* error = std::get_if<server::ApiError>(&wishes)) return std::move(*error);
  auto read = intake.completion_of_either(request);
  if (auto* error = std::get_if<server::ApiError>(&read)) return std::move(*error);
  Explained out{.accepted = std::get<server::AcceptedCompletion>(std::move(read)), .session = {}};
  out.session = std::get<server::ClientWishes>(wishes).session;
  if (out.session.empty()) out.session = out.accepted.request.session;
  if (!out.session.empty()) out.session.insert(0, key_of(request) + '\n');
  return out;
}

}  // namespace

RouteAdmin::RouteAdmin(const Parts& parts, const std::vector<std::string>& admin_keys)
    : parts_(parts), keys_(admin_keys) {}

bool RouteAdmin::owns(std::string_view path) {
  constexpr std::array kPaths = {kWorkers, kDrain, kUndrain, kExplain};
  return std::ranges::find(kPaths, path) != kPaths.end();
}

std::optional<server::ApiError> RouteAdmin::guard(const net::HttpRequest& request) const {
  if (keys_.open_to_all()) {
    return server::ApiError{
        .status = 403,
        .type = "permission_error",
        .message =
            "this router has no admin key: give it --admin-key-file, or env "
            "PLEIAD_ADMIN_KEY",
    };
  }
  if (!keys_.admits(request.headers.find("Authorization").value_or(""))) {
    return server::ApiError{
        .status = 401,
        .message = "missing or wrong admin key; send it as Authorization: Bearer KEY",
        .code = "invalid_api_key",
    };
  }
  if (!takes(request.path, request.method)) {
    return server::ApiError{
        .status = 405,
        .message = fmt::format("this route takes {} only", methods_of(request.path)),
    };
  }
  return std::nullopt;
}

void RouteAdmin::handle(net::HttpRequest request, std::unique_ptr<net::Responder> responder) {
  if (const auto error = guard(request)) {
    net::HttpResponse response = server::error_response(*error);
    if (error->status == 405) response.headers.add("Allow", std::string(methods_of(request.path)));
    responder->respond(response);
  } else if (request.path == kExplain) {
    explain(std::move(request), std::move(responder));
  } else if (request.method == "GET") {
    responder->respond(server::json_response(parts_.registry->workers_json()));
  } else {
    responder->respond(change_workers(request));
  }
}

net::HttpResponse RouteAdmin::change_workers(const net::HttpRequest& request) const {
  const auto worker = worker_of(request);
  Result<void> done;
  if (!worker.ok()) {
    done = worker.error();
  } else if (request.path == kDrain || request.path == kUndrain) {
    done = parts_.registry->set_draining(worker->url, request.path == kDrain);
  } else if (request.method == "DELETE") {
    done = parts_.registry->remove(worker->url);
  } else {
    done = parts_.registry->add(worker->url, worker->role);
  }
  if (!done.ok()) return server::error_response(server::from_error(done.error()));
  return server::json_response(parts_.registry->workers_json());
}

void RouteAdmin::explain(net::HttpRequest request, std::unique_ptr<net::Responder> responder) {
  parts_.text_loop->post([this, request = std::move(request), responder = std::move(responder)](
                         ) mutable {
    auto question = read_question(*parts_.intake, request);
    if (const auto* error = std::get_if<server::ApiError>(&question)) {
      responder->respond(server::error_response(*error));
      return;
    }
    parts_.loop->post([this,
                       question = std::get<Explained>(std::move(question)),
                       responder = std::move(responder)] {
      const auto& prompt = question.accepted.prompts.front().tokens;
      const auto keys = router::prefix_keys(question.accepted.request.cache_salt, prompt);
      responder->respond(server::json_response(parts_.generator->explain({
          .prompt_tokens = static_cast<std::int64_t>(prompt.size()),
          .keys = keys,
          .session = question.session,
      })));
    });
  });
}

}  // namespace pleiad::apps
