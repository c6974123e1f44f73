#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

// URLs and request targets. Pure.
namespace pleiad::net {

// Where an HTTP server is, and what to ask it for.
struct Url {
  std::string host{};  // a name, an IPv4 address, or an IPv6 address without its brackets
  std::uint16_t port = 80;
  std::string target = "/";  // path and query as they go into the request line
};

// Parses "http://host[:port][/path][?query]". Fails with InvalidInput on other schemes, user names,
// fragments, spaces and control characters, and on ports that are not 1 to 65535.
Result<Url> parse_url(std::string_view text);

// "host:port" with brackets where IPv6 needs them: the value of a Host header.
std::string host_and_port(const Url& url);

// The halves of a request target, undecoded: "/a?b?c" is {"/a", "b?c"}.
struct TargetParts {
  std::string_view path;
  std::string_view query;
};
TargetParts split_target(std::string_view target);

// Decodes "%41" to "A"; every other byte, "+" too, stays. Fails with InvalidInput on a "%" without
// two hex digits behind it, and on results that hold a control character or are not UTF-8.
Result<std::string> decode_percent(std::string_view text);

// The segments of `path`, each decoded after splitting, so that "%2F" stays inside its segment:
// "/a/b%20c" is ["a", "b c"], "/" is [""]. Fails with InvalidInput when the path does not start
// with "/", a segment cannot be decoded, or one is "." or "..".
Result<std::vector<std::string>> decode_path(std::string_view path);

// The pairs of a query in order: "a=1&b&c=%20" is [(a,1), (b,""), (c," ")]; "+" is a space. Fails
// like decode_percent.
Result<std::vector<std::pair<std::string, std::string>>> decode_query(std::string_view query);

}  // namespace pleiad::net
