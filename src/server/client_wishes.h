#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>

#include "base/clock.h"
#include "net/http_message.h"
#include "server/api_error.h"

namespace pleiad::server {

// What a client's headers ask for beside the body.
struct ClientWishes {
  std::string priority_class;            // x-priority: a name
  std::optional<std::int32_t> priority;  // x-priority: a number; lower is more urgent
  std::optional<Nanoseconds> patience;   // x-queue-timeout-ms: how long it may wait for its start
  std::string session;                   // x-session-id
};

inline constexpr std::size_t kSessionBytesMax = 512;

// Fails on numbers out of range, and on names and sessions that are empty or too long.
std::variant<ClientWishes, ApiError> read_client_wishes(const net::HttpHeaders& headers);

}  // namespace pleiad::server
