#include "net/http_head.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

namespace pleiad::net {

namespace {

constexpr std::size_t kMethodBytesMax = 32;
constexpr std::size_t kRequestLineRest = kMethodBytesMax + 16;  // method, version, spaces, CR LF
constexpr std::size_t kLengthDigitsMax = 18;                    // always fits 63 bits

constexpr bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

constexpr bool is_alphanumeric(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

constexpr std::array<bool, 256> make_token_table() {
  std::array<bool, 256> table{};
  for (unsigned char c = 0; c < 128; ++c) {
    table[c] = is_alphanumeric(static_cast<char>(c));
  }
  for (const char c : std::string_view("!#$%&'*+-.^_`|~")) {
    table[static_cast<unsigned char>(c)] = true;
  }
  return table;
}

constexpr std::array<bool, 256> kTokenTable = make_token_table();

constexpr bool is_token_char(char c) {
  return kTokenTable[static_cast<unsigned char>(c)];
}

constexpr bool is_control(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return (byte < 0x20 && c != '\t') || byte == 0x7F;
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) {
    text.remove_prefix(1);
  }
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) {
    text.remove_suffix(1);
  }
  return text;
}

// Cuts the next line, without its CR LF, off the front of `rest`.
std::string_view take_line(std::string_view& rest) {
  const std::size_t end = rest.find("\r\n");
  const std::string_view line = rest.substr(0, end);
  rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 2);
  return line;
}

using Refused = std::optional<HttpRefusal>;  // nothing: all is well

HttpRefusal bad_request(std::string message) {
  return {400, std::move(message)};
}

Refused parse_version(std::string_view text, int& minor_version) {
  const bool well_formed = text.size() == 8 && text.substr(0, 5) == "HTTP/" && is_digit(text[5]) &&
                           text[6] == '.' && is_digit(text[7]);
  if (!well_formed) return bad_request("the HTTP version is malformed");
  if (text[5] != '1' || text[7] > '1') {
    return HttpRefusal{505, "only HTTP/1.0 and HTTP/1.1 are spoken here"};
  }
  minor_version = text[7] - '0';
  return std::nullopt;
}

bool is_target(std::string_view method, std::string_view target) {
  if (target == "*") return method == "OPTIONS";
  return target.front() == '/' && std::all_of(target.begin(), target.end(), [](char c) {
           return c > ' ' && c < 0x7F && c != '#';
         });
}

Refused
parse_request_line(std::string_view line, const HttpHeadLimits& limits, HttpRequestHead& head) {
  const std::size_t first = line.find(' ');
  const std::size_t last = line.rfind(' ');
  const bool three_words = first != std::string_view::npos && last > first + 1;
  if (!three_words) return bad_request("the request line is not: method, target, HTTP version");
  const std::string_view method = line.substr(0, first);
  const std::string_view target = line.substr(first + 1, last - first - 1);
  if (!is_token(method) || method.size() > kMethodBytesMax) {
    return bad_request("the request method is malformed");
  }
  if (auto refused = parse_version(line.substr(last + 1), head.minor_version)) return refused;
  if (target.size() > limits.target_bytes_max) return HttpRefusal{414, "the URL is too long"};
  if (!is_target(method, target)) {
    return bad_request("the request target must be a path that starts with /");
  }
  head.method = method;
  head.target = target;
  return std::nullopt;
}

Refused parse_status_line(std::string_view line, HttpResponseHead& head) {
  const bool well_formed = line.size() >= 12 && line[8] == ' ' && is_digit(line[9]) &&
                           is_digit(line[10]) && is_digit(line[11]) &&
                           (line.size() == 12 || line[12] == ' ');
  if (!well_formed) return bad_request("the status line is malformed");
  if (auto refused = parse_version(line.substr(0, 8), head.minor_version)) return refused;
  head.status = (line[9] - '0') * 100 + (line[10] - '0') * 10 + (line[11] - '0');
  if (head.status < 100) return bad_request("the status code is malformed");
  return std::nullopt;
}

Refused parse_fields(std::string_view rest, HttpHeaders& headers) {
  while (true) {
    const std::string_view line = take_line(rest);
    if (line.empty()) return std::nullopt;
    if (line.front() == ' ' || line.front() == '\t') {
      return bad_request("a header line may not be folded");
    }
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos || !is_token(line.substr(0, colon))) {
      return bad_request("a header line is not a name followed by a colon");
    }
    const std::string_view value = trim(line.substr(colon + 1));
    if (!is_header_value(value)) return bad_request("a header value holds a control character");
    headers.add(std::string(line.substr(0, colon)), std::string(value));
  }
}

// The header fields that say how the message is framed, and whether the connection lives on.
struct FramingFields {
  std::size_t lengths = 0;
  std::size_t codings = 0;
  std::size_t hosts = 0;
  std::string_view length;
  std::string_view coding;
  std::string_view host;
  bool close = false;
  bool keep_alive = false;
};

FramingFields framing_fields(const HttpHeaders& headers) {
  FramingFields fields;
  for (const HttpHeader& header : headers) {
    if (equals_ignoring_case(header.name, "content-length")) {
      ++fields.lengths;
      fields.length = header.value;
    } else if (equals_ignoring_case(header.name, "transfer-encoding")) {
      ++fields.codings;
      fields.coding = header.value;
    } else if (equals_ignoring_case(header.name, "host")) {
      ++fields.hosts;
      fields.host = header.value;
    } else if (equals_ignoring_case(header.name, "connection")) {
      fields.close = fields.close || list_contains(header.value, "close");
      fields.keep_alive = fields.keep_alive || list_contains(header.value, "keep-alive");
    }
  }
  return fields;
}

Refused parse_length(std::string_view text, std::uint64_t& length) {
  const bool digits = !text.empty() && std::all_of(text.begin(), text.end(), is_digit);
  if (!digits || text.size() > kLengthDigitsMax) {
    return bad_request("Content-Length is not one plain decimal number");
  }
  length = 0;
  for (const char c : text) {
    length = length * 10 + static_cast<std::uint64_t>(c - '0');
  }
  return std::nullopt;
}

// Sets framing and content_length of `head`, None when neither header is there.
template <typename Head>
Refused parse_framing(const FramingFields& fields, Head& head) {
  if (fields.lengths + fields.codings > 1) {
    return bad_request("Content-Length and Transfer-Encoding may appear once, and not together");
  }
  if (fields.codings == 1) {
    if (head.minor_version == 0) return bad_request("HTTP/1.0 has no Transfer-Encoding");
    if (!equals_ignoring_case(fields.coding, "chunked")) {
      return HttpRefusal{501, "the only transfer coding spoken here is chunked"};
    }
    head.framing = BodyFraming::Chunked;
  }
  if (fields.lengths == 1) {
    if (auto refused = parse_length(fields.length, head.content_length)) return refused;
    head.framing = head.content_length > 0 ? BodyFraming::Length : BodyFraming::None;
  }
  return std::nullopt;
}

Refused check_host(const FramingFields& fields, int minor_version) {
  const bool may_be_missing = minor_version == 0;
  if (fields.hosts == 0 && may_be_missing) return std::nullopt;
  if (fields.hosts != 1) return bad_request("exactly one Host header is needed");
  if (!is_host(fields.host)) return bad_request("the Host header is not a host, or host:port");
  return std::nullopt;
}

Refused parse_expectation(HttpRequestHead& head) {
  const auto expectation = head.headers.find("expect");
  if (!expectation || head.minor_version == 0) return std::nullopt;
  if (!equals_ignoring_case(*expectation, "100-continue")) {
    return HttpRefusal{417, "the only expectation known here is 100-continue"};
  }
  head.expects_continue = head.framing != BodyFraming::None;
  return std::nullopt;
}

bool is_port(std::string_view port) {
  return port.size() <= 5 && std::all_of(port.begin(), port.end(), is_digit);
}

}  // namespace

bool is_token(std::string_view name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), is_token_char);
}

bool is_header_value(std::string_view value) {
  return std::none_of(value.begin(), value.end(), is_control);
}

bool is_host(std::string_view host) {
  const bool bracketed = !host.empty() && host.front() == '[';
  const std::size_t name_end = bracketed ? host.find(']') : std::min(host.find(':'), host.size());
  if (name_end == std::string_view::npos || name_end == 0) return false;
  const std::string_view name = bracketed ? host.substr(1, name_end - 1) : host.substr(0, name_end);
  const std::string_view rest = host.substr(bracketed ? name_end + 1 : name_end);
  const bool name_fits =
      !name.empty() && std::all_of(name.begin(), name.end(), [bracketed](char c) {
        return is_alphanumeric(c) || c == '.' || (bracketed ? c == ':' : c == '-' || c == '_');
      });
  return name_fits && (rest.empty() || (rest.front() == ':' && is_port(rest.substr(1))));
}

HttpHeadScanner::Status HttpHeadScanner::refuse(int status, std::string message) {
  refusal_ = {status, std::move(message)};
  return Status::Refused;
}

// The line that ends at scanned_ is whole: complete when it is empty.
HttpHeadScanner::Status HttpHeadScanner::end_line(std::string_view bytes) {
  const bool after_cr = scanned_ >= 2 && bytes[scanned_ - 2] == '\r';
  if (!after_cr) return refuse(400, "lines must end with CR LF");
  const bool empty = scanned_ - line_start_ == 2;
  if (empty && lines_ == 0) return refuse(400, "the first line is empty");
  if (empty) return Status::Complete;
  line_start_ = scanned_;
  if (lines_++ == 0) header_start_ = scanned_;
  if (lines_ - 1 > limits_.header_count_max) return refuse(431, "too many header lines");
  return Status::NeedMore;
}

HttpHeadScanner::Status HttpHeadScanner::scan(std::string_view bytes) {
  while (scanned_ < bytes.size()) {
    const char c = bytes[scanned_];
    const bool after_cr = scanned_ > line_start_ && bytes[scanned_ - 1] == '\r';
    ++scanned_;
    if (c == '\n') {
      const Status status = end_line(bytes);
      if (status != Status::NeedMore) return status;
      continue;
    }
    if (after_cr) return refuse(400, "a CR must be followed by LF");
    if (is_control(c) && c != '\r') return refuse(400, "a control character is in the head");
    if (lines_ == 0 && scanned_ > limits_.target_bytes_max + kRequestLineRest) {
      return refuse(414, "the URL is too long");
    }
    if (lines_ > 0 && scanned_ - header_start_ > limits_.header_bytes_max) {
      return refuse(431, "the header lines are too long");
    }
  }
  return Status::NeedMore;
}

std::variant<HttpRequestHead, HttpRefusal>
parse_request_head(std::string_view head, const HttpHeadLimits& limits) {
  HttpRequestHead parsed;
  if (auto refused = parse_request_line(take_line(head), limits, parsed)) return *refused;
  if (auto refused = parse_fields(head, parsed.headers)) return *refused;
  const FramingFields fields = framing_fields(parsed.headers);
  if (auto refused = check_host(fields, parsed.minor_version)) return *refused;
  if (auto refused = parse_framing(fields, parsed)) return *refused;
  if (auto refused = parse_expectation(parsed)) return *refused;
  parsed.keep_alive = !fields.close && (parsed.minor_version == 1 || fields.keep_alive);
  return parsed;
}

std::variant<HttpResponseHead, HttpRefusal>
parse_response_head(std::string_view head, std::string_view request_method) {
  HttpResponseHead parsed;
  if (auto refused = parse_status_line(take_line(head), parsed)) return *refused;
  if (auto refused = parse_fields(head, parsed.headers)) return *refused;
  const FramingFields fields = framing_fields(parsed.headers);
  if (auto refused = parse_framing(fields, parsed)) return *refused;
  parsed.keep_alive = !fields.close && (parsed.minor_version == 1 || fields.keep_alive);
  const bool no_body = request_method == "HEAD" || parsed.status < 200 || parsed.status == 204 ||
                       parsed.status == 304;
  if (no_body) {
    parsed.framing = BodyFraming::None;
  } else if (fields.lengths + fields.codings == 0) {
    parsed.framing = BodyFraming::UntilClose;
    parsed.keep_alive = false;
  }
  return parsed;
}

}  // namespace pleiad::net
