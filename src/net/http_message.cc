#include "net/http_message.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/json.h"

namespace pleiad::net {

namespace {

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

std::string_view trim(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

struct StatusText {
  int status;
  std::string_view text;
};

// RFC 9110 §15 and its registry; 499 and 529 are in use without being in it.
constexpr std::array<StatusText, 43> kStatusTexts = {{
    {100, "Continue"},
    {101, "Switching Protocols"},
    {200, "OK"},
    {201, "Created"},
    {202, "Accepted"},
    {204, "No Content"},
    {206, "Partial Content"},
    {301, "Moved Permanently"},
    {302, "Found"},
    {303, "See Other"},
    {304, "Not Modified"},
    {307, "Temporary Redirect"},
    {308, "Permanent Redirect"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {406, "Not Acceptable"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {410, "Gone"},
    {411, "Length Required"},
    {412, "Precondition Failed"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {417, "Expectation Failed"},
    {421, "Misdirected Request"},
    {422, "Unprocessable Content"},
    {425, "Too Early"},
    {426, "Upgrade Required"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {499, "Client Closed Request"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
    {507, "Insufficient Storage"},
    {529, "Overloaded"},
}};

// The error types that OpenAI's clients know.
std::string_view error_type(int status) {
  switch (status) {
    case 403:
      return "permission_error";
    case 408:
      return "timeout";
    case 429:
      return "rate_limit_error";
    default:
      return status >= 500 ? "server_error" : "invalid_request_error";
  }
}

}  // namespace

bool equals_ignoring_case(std::string_view a, std::string_view b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](char x, char y) {
           return lower(x) == lower(y);
         });
}

bool list_contains(std::string_view list, std::string_view token) {
  while (!list.empty()) {
    const std::size_t comma = std::min(list.find(','), list.size());
    if (equals_ignoring_case(trim(list.substr(0, comma)), token)) return true;
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return false;
}

void HttpHeaders::add(std::string name, std::string value) {
  headers_.push_back({std::move(name), std::move(value)});
}

void HttpHeaders::set(std::string_view name, std::string value) {
  remove(name);
  add(std::string(name), std::move(value));
}

void HttpHeaders::remove(std::string_view name) {
  std::erase_if(headers_, [name](const HttpHeader& header) {
    return equals_ignoring_case(header.name, name);
  });
}

std::optional<std::string_view> HttpHeaders::find(std::string_view name) const {
  for (const HttpHeader& header : headers_) {
    if (equals_ignoring_case(header.name, name)) return header.value;
  }
  return std::nullopt;
}

std::size_t HttpHeaders::count(std::string_view name) const {
  return static_cast<std::size_t>(std::count_if(
      headers_.begin(),
      headers_.end(),
      [name](const HttpHeader& header) { return equals_ignoring_case(header.name, name); }
  ));
}

std::string_view status_text(int status) {
  const auto* const found =
      std::find_if(kStatusTexts.begin(), kStatusTexts.end(), [status](const StatusText& entry) {
        return entry.status == status;
      });
  return found == kStatusTexts.end() ? "Unknown" : found->text;
}

std::string error_body(int status, std::string_view message) {
  std::string body = R"({"error":{"message":)";
  append_json_string(message, body);
  body.append(R"(,"type":")").append(error_type(status)).append(R"(","param":null,"code":null}})");
  return body;
}

}  // namespace pleiad::net
