#pragma once

#include <cstddef>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace pleiad::net {

struct HttpHeader {
  std::string name{};
  std::string value{};
};

// Header fields in the order they were sent. Names compare without regard to ASCII case. A plain
// value.
class HttpHeaders {
 public:
  HttpHeaders() = default;
  HttpHeaders(std::initializer_list<HttpHeader> headers) : headers_(headers) {}

  void add(std::string name, std::string value);
  // Replaces every field `name` by one.
  void set(std::string_view name, std::string value);
  void remove(std::string_view name);

  // The value of the first field `name`; it may be empty.
  [[nodiscard]] std::optional<std::string_view> find(std::string_view name) const;
  [[nodiscard]] std::size_t count(std::string_view name) const;

  [[nodiscard]] std::size_t size() const { return headers_.size(); }
  [[nodiscard]] bool empty() const { return headers_.empty(); }
  [[nodiscard]] auto begin() const { return headers_.begin(); }
  [[nodiscard]] auto end() const { return headers_.end(); }

 private:
  std::vector<HttpHeader> headers_;
};

// A whole request as a handler gets it. `path` and `query` are the two halves of `target` as they
// were sent: nothing is decoded (net/url.h decodes). Header values are never decoded.
struct HttpRequest {
  std::string method{};
  std::string target{};
  std::string path{};
  std::string query{};  // without the question mark
  int minor_version = 1;
  HttpHeaders headers{};
  std::string body{};
  std::string peer{};  // address:port of the client's end of the connection
};

// A whole answer.
struct HttpResponse {
  int status = 200;
  HttpHeaders headers{};
  std::string body{};
};

// The standard words for `status`, such as "Not Found"; "Unknown" for one that is not registered.
std::string_view status_text(int status);

// The error object OpenAI clients read: {"error":{"message","type","param":null,"code":null}}, with
// the type that fits `status`.
std::string error_body(int status, std::string_view message);

[[nodiscard]] bool equals_ignoring_case(std::string_view a, std::string_view b);
// Whether the comma-separated `list` holds `token`, without regard to case.
[[nodiscard]] bool list_contains(std::string_view list, std::string_view token);

}  // namespace pleiad::net
