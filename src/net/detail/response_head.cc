#include "net/detail/response_head.h"

#include <array>
#include <chrono>
#include <iterator>

#include <fmt/format.h>

#include "base/log.h"
#include "net/http_head.h"

namespace pleiad::net {

namespace {

constexpr std::array<std::string_view, 7> kDays = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
constexpr std::array<std::string_view, 12> kMonths =
    {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

// Headers that belong to one connection, which the connection writes itself.
bool is_own_header(std::string_view name) {
  constexpr std::array<std::string_view, 5> kOwn = {
      "date", "content-length", "transfer-encoding", "connection", "keep-alive"};
  for (const std::string_view own : kOwn) {
    if (equals_ignoring_case(name, own)) return true;
  }
  return false;
}

void append_fields(int status, const HttpHeaders& headers, std::string& out) {
  std::size_t malformed = 0;
  for (const HttpHeader& header : headers) {
    if (is_own_header(header.name)) continue;
    const bool fits = is_token(header.name) && is_header_value(header.value);
    if (!fits) {
      ++malformed;
      continue;
    }
    out.append(header.name).append(": ").append(header.value).append("\r\n");
  }
  if (malformed == 0) return;
  PLEIAD_LOG(Error, "dropped {} malformed headers of an answer with status {}", malformed, status);
}

}  // namespace

std::string http_date(std::int64_t unix_seconds) {
  const std::chrono::sys_seconds moment{std::chrono::seconds{unix_seconds}};
  const auto day = std::chrono::floor<std::chrono::days>(moment);
  const std::chrono::year_month_day date{day};
  const std::chrono::hh_mm_ss time{moment - day};
  return fmt::format(
      "{}, {:02} {} {:04} {:02}:{:02}:{:02} GMT",
      kDays[std::chrono::weekday{day}.c_encoding()],
      static_cast<unsigned>(date.day()),
      kMonths[static_cast<unsigned>(date.month()) - 1],
      static_cast<int>(date.year()),
      time.hours().count(),
      time.minutes().count(),
      time.seconds().count()
  );
}

void append_response_head(
    int status,
    const HttpHeaders& headers,
    const ResponseFraming& framing,
    std::string& out
) {
  auto end = std::back_inserter(out);
  fmt::format_to(end, "HTTP/1.1 {} {}\r\n", status, status_text(status));
  append_fields(status, headers, out);
  out.append("Date: ").append(http_date(framing.unix_seconds)).append("\r\n");
  const bool may_have_body = status != 204 && status != 304;
  if (framing.chunked) {
    out.append("Transfer-Encoding: chunked\r\n");
  } else if (framing.content_length && may_have_body) {
    fmt::format_to(end, "Content-Length: {}\r\n", *framing.content_length);
  }
  if (!framing.keep_alive) {
    out.append("Connection: close\r\n");
  } else if (framing.minor_version == 0) {
    out.append("Connection: keep-alive\r\n");
  }
  out.append("\r\n");
}

void append_chunk(std::string_view body, std::string& out) {
  fmt::format_to(std::back_inserter(out), "{:x}\r\n", body.size());
  out.append(body).append("\r\n");
}

}  // namespace pleiad::net
