#pragma once

#include <optional>
#include <variant>

#include "base/json.h"
#include "server/api_error.h"

namespace pleiad::server {

// The `messages` of a chat request with every content made a plain string: lists of text parts are
// joined, null becomes "". Tool calls keep their form, with string-encoded arguments left as they
// are. Fails on an empty list, unknown roles, parts that are not text (media is never fetched).
// Pure.
std::variant<Json, ApiError> normalise_messages(const Json* messages);

// What is wrong with a `tools` list, if anything: type function, name of [A-Za-z0-9_-], at most 64
// bytes, at most 128 tools.
std::optional<ApiError> check_tools(const Json& tools);

}  // namespace pleiad::server
