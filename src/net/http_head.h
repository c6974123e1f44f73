#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>

#include "net/http_message.h"

// The head of an HTTP/1.x message (RFC 9110, RFC 9112), parsed strictly: what two parsers could
// read in two ways is refused, because a proxy in front may have read it the other way. Pure.
namespace pleiad::net {

struct HttpHeadLimits {
  std::size_t target_bytes_max = 8U << 10U;   // the URL as sent; more is 414
  std::size_t header_bytes_max = 64U << 10U;  // all header lines together; more is 431
  std::size_t header_count_max = 100;         // header lines; more is 431
};

// Why a message is refused: the status to answer, and words without any byte of the message.
struct HttpRefusal {
  int status = 400;
  std::string message;
};

// How long the body is.
enum class BodyFraming {
  None,        // there is none
  Length,      // content_length bytes
  Chunked,     // chunks, see net/http_chunk.h
  UntilClose,  // answers only: up to the end of the connection
};

struct HttpRequestHead {
  std::string method;
  std::string target;
  int minor_version = 1;  // HTTP/1.0 or HTTP/1.1
  HttpHeaders headers;
  BodyFraming framing = BodyFraming::None;
  std::uint64_t content_length = 0;
  bool keep_alive = true;         // the connection may carry another request
  bool expects_continue = false;  // the client waits for "100 Continue" before it sends the body
};

struct HttpResponseHead {
  int status = 0;
  int minor_version = 1;
  HttpHeaders headers;
  BodyFraming framing = BodyFraming::None;
  std::uint64_t content_length = 0;
  bool keep_alive = true;
};

// Looks for the end of a head in bytes that arrive piece by piece, each byte looked at once.
// Refuses control characters, line ends other than CR LF and broken limits as soon as they are
// seen.
class HttpHeadScanner {
 public:
  enum class Status { NeedMore, Complete, Refused };

  explicit HttpHeadScanner(const HttpHeadLimits& limits) : limits_(limits) {}

  // `bytes`: all bytes received since the head began; it starts with those of the call before.
  // After Complete, head_bytes() says how many belong to the head.
  Status scan(std::string_view bytes);
  [[nodiscard]] std::size_t head_bytes() const { return scanned_; }
  // REQUIRES: the last scan() said Refused.
  [[nodiscard]] const HttpRefusal& refusal() const { return refusal_; }

 private:
  Status refuse(int status, std::string message);
  Status end_line(std::string_view bytes);

  HttpHeadLimits limits_;
  std::size_t scanned_ = 0;
  std::size_t line_start_ = 0;
  std::size_t header_start_ = 0;  // where the second line begins
  std::size_t lines_ = 0;
  HttpRefusal refusal_;
};

// Parses a head that a scanner found Complete, with its empty last line. Refuses with 400 anything
// malformed or ambiguous (Content-Length with Transfer-Encoding, repeated or odd Content-Length,
// obs-fold, a Host that is missing, repeated or no host), 414 a long target, 417 an unknown
// expectation, 501 transfer codings other than chunked, 505 versions other than 1.0 and 1.1.
// Targets are origin-form
// ("/path?query"), or "*" with OPTIONS; others are 400.
std::variant<HttpRequestHead, HttpRefusal>
parse_request_head(std::string_view head, const HttpHeadLimits& limits = {});

// The same for the head of an answer to a request of method `request_method`.
std::variant<HttpResponseHead, HttpRefusal>
parse_response_head(std::string_view head, std::string_view request_method);

// Whether `value` may stand in a header field: no control characters but the tab.
[[nodiscard]] bool is_header_value(std::string_view value);
// Whether `name` may name a header field or a method (RFC 9110 token).
[[nodiscard]] bool is_token(std::string_view name);
// Whether `host` is a host, or host:port, and nothing else.
[[nodiscard]] bool is_host(std::string_view host);

}  // namespace pleiad::net
