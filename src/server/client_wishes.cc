#include "server/client_wishes.h"

#include <charconv>
#include <limits>
#include <string_view>

#include <fmt/core.h>

namespace pleiad::server {
namespace {

constexpr std::size_t kClassBytesMax = 64;
constexpr std::int64_t kPatienceMsMax = 3'600'000;

// A whole number that is the whole text.
std::optional<std::int64_t> whole_number(std::string_view text) {
  std::int64_t number = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
  if (parsed.ec != std::errc{} || parsed.ptr != text.data() + text.size()) return std::nullopt;
  return number;
}

std::optional<ApiError> read_priority(std::string_view text, ClientWishes& out) {
  constexpr std::int64_t kMax = std::numeric_limits<std::int32_t>::max();
  const bool digits = text.find_first_not_of("-0123456789") == std::string_view::npos;
  if (!digits && text.size() <= kClassBytesMax) {
    out.priority_class = text;
    return std::nullopt;
  }
  const auto number = whole_number(text);
  if (!number || *number < -kMax || *number > kMax) {
    return bad_parameter(
        "x-priority",
        fmt::format(
            "x-priority is the name of a priority class, of 1 to {} bytes, or a whole number from "
            "{} to {}",
            kClassBytesMax,
            -kMax,
            kMax
        )
    );
  }
  out.priority = static_cast<std::int32_t>(*number);
  return std::nullopt;
}

}  // namespace

std::variant<ClientWishes, ApiError> read_client_wishes(const net::HttpHeaders& headers) {
  ClientWishes out;
  if (const auto text = headers.find("x-priority")) {
    if (auto error = read_priority(*text, out)) return *std::move(error);
  }
  if (const auto text = headers.find("x-queue-timeout-ms")) {
    const auto number = whole_number(*text);
    if (!number || *number < 0 || *number > kPatienceMsMax) {
      return bad_parameter(
          "x-queue-timeout-ms",
          fmt::format("x-queue-timeout-ms must be a whole number from 0 to {}", kPatienceMsMax)
      );
    }
    out.patience = std::chrono::milliseconds(*number);
  }
  if (const auto text = headers.find("x-session-id")) {
    if (text->empty() || text->size() > kSessionBytesMax) {
      return bad_parameter(
          "x-session-id", fmt::format("x-session-id must have 1 to {} bytes", kSessionBytesMax)
      );
    }
    out.session = *text;
  }
  return out;
}

}  // namespace pleiad::server
