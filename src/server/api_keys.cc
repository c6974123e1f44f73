#include "server/api_keys.h"

#include <algorithm>

#include "net/http_message.h"

namespace pleiad::server {
namespace {

// Compares every byte of `given` whatever differs.
bool same_text(std::string_view given, std::string_view key) {
  unsigned difference = given.size() == key.size() ? 0U : 1U;
  for (std::size_t i = 0; i < given.size(); ++i) {
    const char expected = key.empty() ? '\0' : key[i % key.size()];
    difference |= static_cast<unsigned>(given[i] ^ expected);
  }
  return difference == 0;
}

}  // namespace

bool ApiKeys::admits(std::string_view authorization) const {
  if (open_to_all()) return true;
  constexpr std::string_view kScheme = "Bearer ";
  std::string_view given = authorization;
  if (net::equals_ignoring_case(given.substr(0, kScheme.size()), kScheme)) {
    given.remove_prefix(kScheme.size());
    given.remove_prefix(std::min(given.find_first_not_of(' '), given.size()));
  }
  bool admitted = false;
  for (const std::string& key : keys_) {
    admitted |= same_text(given, key);
  }
  return admitted;
}

}  // namespace pleiad::server
