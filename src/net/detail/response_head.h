#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "net/http_message.h"

namespace pleiad::net {

// What the connection decides about an answer's head.
struct ResponseFraming {
  int minor_version = 1;                        // of the request
  bool keep_alive = true;                       // another request may follow
  bool chunked = false;                         // the body comes in chunks
  std::optional<std::size_t> content_length{};  // the body has this many bytes
  std::int64_t unix_seconds = 0;                // for Date
};

// Appends status line, headers and the empty line. Drops Date, Content-Length, Transfer-Encoding,
// Connection and Keep-Alive from `headers`, and (with a line in the log) headers that are
// malformed.
void append_response_head(
    int status,
    const HttpHeaders& headers,
    const ResponseFraming& framing,
    std::string& out
);

// Appends `body` as one chunk of a chunked body. REQUIRES: not empty.
void append_chunk(std::string_view body, std::string& out);

// `unix_seconds` as an HTTP date, such as "Sun, 06 Nov 1994 08:49:37 GMT".
std::string http_date(std::int64_t unix_seconds);

}  // namespace pleiad::net
