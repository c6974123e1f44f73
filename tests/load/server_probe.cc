#include "tests/load/server_probe.h"

#include <charconv>
#include <fstream>
#include <string>
#include <string_view>

#include <fmt/core.h>

#include "net/http_client.h"

namespace pleiad::load_test {
namespace {

// The number behind `name` and its labels in Prometheus' text format.
Result<std::int64_t> metric(std::string_view text, std::string_view name) {
  for (std::size_t at = text.find(name); at != std::string_view::npos;
       at = text.find(name, at + 1)) {
    const std::string_view line = text.substr(at, text.find('\n', at) - at);
    const bool starts_line = at == 0 || text[at - 1] == '\n';
    if (!starts_line || line.size() <= name.size() || line[name.size()] != '{') continue;
    const std::string_view number = line.substr(line.rfind(' ') + 1);
    std::int64_t value = 0;
    const auto parsed = std::from_chars(number.data(), number.data() + number.size(), value);
    if (parsed.ec == std::errc{}) return value;
  }
  return not_found("no metric {}", name);
}

}  // namespace

Result<std::int64_t> resident_kib(std::int64_t pid) {
  std::ifstream status(fmt::format("/proc/{}/status", pid));
  std::string word;
  while (status >> word) {
    std::int64_t value = 0;
    if (word == "VmRSS:" && status >> value) return value;
  }
  return not_found("process {} is gone", pid);
}

Result<void> wait_until_pages_are_free(const net::Url& server, Nanoseconds patience) {
  net::HttpClientRequest request{.url = server};
  request.url.target = "/metrics";
  const SystemClock clock;
  const Nanoseconds deadline = clock.now() + patience;
  for (;;) {
    PLEIAD_TRY(answer, net::http_fetch(request));
    PLEIAD_TRY(held, metric(answer.body, "pleiad_kv_pages_held"));
    if (held == 0) return {};
    if (clock.now() > deadline) {
      return error(ErrorKind::Timeout, "{} KV pages are still held", held);
    }
  }
}

}  // namespace pleiad::load_test
