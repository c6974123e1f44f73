#include "server/api_error.h"

#include <chrono>
#include <utility>

#include "base/json.h"
#include "base/log.h"

namespace pleiad::server {
namespace {

Json text_or_null(const std::optional<std::string>& text) {
  return text ? Json(*text) : Json();
}

}  // namespace

ApiError bad_parameter(std::string_view param, std::string message) {
  return {
      .message = std::move(message),
      .param = std::string(param),
      .code = "invalid_value",
  };
}

ApiError from_error(const Error& error) {
  switch (error.kind) {
    case ErrorKind::InvalidInput:
    case ErrorKind::Unsupported:
    case ErrorKind::Corrupt:
      return {.message = error.message};
    case ErrorKind::NotFound:
      return {.status = 404, .message = error.message};
    case ErrorKind::Exhausted:
      return {.status = 429, .type = "rate_limit_error", .message = error.message};
    case ErrorKind::Unavailable:
      return {
          .status = 503, .type = "server_error", .message = error.message, .code = "overloaded"};
    case ErrorKind::Timeout:
      return {.status = 504, .type = "timeout", .message = error.message};
    case ErrorKind::Cancelled:
    case ErrorKind::Internal:
      break;
  }
  PLEIAD_LOG(Error, "internal error answered with 500: {}", error.message);
  return {.status = 500, .type = "server_error", .message = "internal error"};
}

std::string error_json(const ApiError& error) {
  Json body;
  body.set("message", error.message);
  body.set("type", error.type);
  body.set("param", text_or_null(error.param));
  body.set("code", text_or_null(error.code));
  Json out;
  out.set("error", std::move(body));
  return out.dump();
}

net::HttpResponse error_response(const ApiError& error, std::uint32_t spread) {
  net::HttpResponse response{.status = error.status, .body = error_json(error)};
  response.headers.add("Content-Type", "application/json");
  if (error.hopeless || error.status == 500) {
    response.headers.add("x-should-retry", "false");
  } else if (error.status == 429 || error.status == 503) {
    using std::chrono::milliseconds;
    constexpr std::uint32_t kSpreadMs = 1000;
    const auto wait =
        std::chrono::ceil<milliseconds>(error.retry_after.value_or(milliseconds(1000)));
    const auto seconds = std::chrono::ceil<std::chrono::seconds>(wait);
    response.headers.add("Retry-After", std::to_string(seconds.count()));
    // Read before Retry-After by OpenAI's clients.
    response.headers.add("retry-after-ms", std::to_string(wait.count() + spread % kSpreadMs));
  } else if (error.status == 401) {
    response.headers.add("WWW-Authenticate", "Bearer");
  }
  return response;
}

}  // namespace pleiad::server
