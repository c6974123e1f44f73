#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/result.h"
#include "net/http_message.h"

namespace pleiad::server {

// An answer that is an error, in OpenAI's form: {"error": {"message", "type", "param", "code"}}.
struct ApiError {
  int status = 400;
  std::string type = "invalid_request_error";
  std::string message;
  std::optional<std::string> param;  // the request member at fault
  std::optional<std::string> code;   // such as "context_length_exceeded"
  // Of 429 and 503: when trying again may help, if that is known.
  std::optional<Nanoseconds> retry_after;
  bool hopeless = false;  // trying again never helps, whatever the status says to clients
};

// A value of the request that is wrong: status 400, naming the member.
ApiError bad_parameter(std::string_view param, std::string message);

// The status and type that fit an error from below: 400 for wrong input, 429 for full queues, 503
// while draining, 500 for the rest, whose message stays in the log.
ApiError from_error(const Error& error);

// The JSON object; also what a stream sends before it breaks off.
std::string error_json(const ApiError& error);

// The whole answer, with Retry-After where trying again can help and x-should-retry: false where it
// cannot. `spread`: any number that differs between requests, so that clients refused together do
// not come back together.
net::HttpResponse error_response(const ApiError& error, std::uint32_t spread = 0);

}  // namespace pleiad::server
