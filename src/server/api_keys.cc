#include "server/api_keys.h"

#include <algorithm>
#include <utility>

#include <fmt/core.h>

#include "net/http_message.h"

namespace pleiad::server {

ApiKeys::ApiKeys(const std::vector<std::string>& keys) {
  for (const std::string& key : keys) {
    add(fmt::format("api-key-{}", keys_.size() + 1), sha256(key));
  }
}

void ApiKeys::add(std::string name, const Sha256& digest) {
  keys_.push_back({std::move(name), digest});
}

std::optional<std::string_view> ApiKeys::identify(std::string_view authorization) const {
  if (open_to_all()) return std::string_view();
  constexpr std::string_view kScheme = "Bearer ";
  std::string_view given = authorization;
  if (net::equals_ignoring_case(given.substr(0, kScheme.size()), kScheme)) {
    given.remove_prefix(kScheme.size());
    given.remove_prefix(std::min(given.find_first_not_of(' '), given.size()));
  }
  const Sha256 digest = sha256(given);
  const Key* found = nullptr;
  for (const Key& key : keys_) {
    if (same_digest(digest, key.digest)) found = &key;
  }
  if (found == nullptr) return std::nullopt;
  return std::string_view(found->name);
}

}  // namespace pleiad::server
