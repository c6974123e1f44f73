#include "net/url.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "base/utf8.h"
#include "net/http_head.h"

namespace pleiad::net {

namespace {

constexpr std::string_view kScheme = "http://";

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool is_control(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte < 0x20 || byte == 0x7F;
}

// The byte that `text`, which starts with "%", stands for.
std::optional<char> decode_escape(std::string_view text) {
  if (text.size() < 3) return std::nullopt;
  const int high = hex_value(text[1]);
  const int low = hex_value(text[2]);
  if (high < 0 || low < 0) return std::nullopt;
  return static_cast<char>(high * 16 + low);
}

Result<std::uint16_t> parse_port(std::string_view text) {
  std::uint16_t port = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), port);
  const bool whole = failure == std::errc{} && end == text.data() + text.size();
  if (!whole || port == 0) return invalid_input("the port of a URL must be 1 to 65535");
  return port;
}

// The part before each `separator`, and what is behind the last one.
std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (true) {
    const std::size_t end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

Result<std::string> decode_query_word(std::string_view text) {
  std::string word(text);
  std::replace(word.begin(), word.end(), '+', ' ');
  return decode_percent(word);
}

}  // namespace

Result<Url> parse_url(std::string_view text) {
  const bool has_scheme =
      text.size() > kScheme.size() && equals_ignoring_case(text.substr(0, kScheme.size()), kScheme);
  if (!has_scheme) return invalid_input("a URL must start with http://");
  const std::string_view rest = text.substr(kScheme.size());
  const bool plain =
      std::all_of(rest.begin(), rest.end(), [](char c) { return c > ' ' && c < 0x7F && c != '#'; });
  if (!plain) return invalid_input("a URL may hold only visible ASCII characters, and no fragment");
  const std::size_t authority_end = std::min(rest.find_first_of("/?"), rest.size());
  const std::string_view authority = rest.substr(0, authority_end);
  if (!is_host(authority)) return invalid_input("a URL must name a host, or host:port");

  Url url;
  const std::size_t bracket = authority.find(']');
  const bool bracketed = bracket != std::string_view::npos;
  const std::size_t host_end =
      bracketed ? bracket + 1 : std::min(authority.find(':'), authority.size());
  url.host = bracketed ? authority.substr(1, bracket - 1) : authority.substr(0, host_end);
  if (host_end < authority.size()) {
    PLEIAD_TRY(port, parse_port(authority.substr(host_end + 1)));
    url.port = port;
  }
  url.target = rest.substr(authority_end);
  if (url.target.empty() || url.target.front() == '?') url.target.insert(0, "/");
  return url;
}

std::string host_and_port(const Url& url) {
  const bool ipv6 = url.host.find(':') != std::string::npos;
  return fmt::format("{}:{}", ipv6 ? "[" + url.host + "]" : url.host, url.port);
}

TargetParts split_target(std::string_view target) {
  const std::size_t question = target.find('?');
  if (question == std::string_view::npos) return {target, {}};
  return {target.substr(0, question), target.substr(question + 1)};
}

Result<std::string> decode_percent(std::string_view text) {
  std::string decoded;
  decoded.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded.push_back(text[i]);
      continue;
    }
    const auto byte = decode_escape(text.substr(i));
    if (!byte) return invalid_input("a % in the URL must be followed by two hexadecimal digits");
    decoded.push_back(*byte);
    i += 2;
  }
  if (std::any_of(decoded.begin(), decoded.end(), is_control)) {
    return invalid_input("the URL holds an encoded control character");
  }
  if (!is_valid_utf8(decoded)) return invalid_input("the URL does not decode to UTF-8");
  return decoded;
}

Result<std::vector<std::string>> decode_path(std::string_view path) {
  if (path.empty() || path.front() != '/') return invalid_input("a path must start with /");
  std::vector<std::string> segments;
  for (const std::string_view part : split(path.substr(1), '/')) {
    PLEIAD_TRY(segment, decode_percent(part));
    if (segment == "." || segment == "..") {
      return invalid_input("a path may not hold the segments . and ..");
    }
    segments.push_back(std::move(segment));
  }
  return segments;
}

Result<std::vector<std::pair<std::string, std::string>>> decode_query(std::string_view query) {
  std::vector<std::pair<std::string, std::string>> pairs;
  if (query.empty()) return pairs;
  for (const std::string_view part : split(query, '&')) {
    const std::size_t equals = std::min(part.find('='), part.size());
    PLEIAD_TRY(name, decode_query_word(part.substr(0, equals)));
    PLEIAD_TRY(value, decode_query_word(part.substr(std::min(equals + 1, part.size()))));
    pairs.emplace_back(std::move(name), std::move(value));
  }
  return pairs;
}

}  // namespace pleiad::net
