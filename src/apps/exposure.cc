#include "apps/exposure.h"

#include <fmt/core.h>

namespace pleiad::apps {
namespace {

bool is_loopback(std::string_view host) {
  return host == "localhost" || host == "::1" || host.starts_with("127.");
}

}  // namespace

Result<void> check_exposure(const Exposure& exposure) {
  for (const std::string& key : exposure.api_keys) {
    if (key.empty()) return invalid_input("--api-key must not be empty");
  }
  const bool guarded =
      !exposure.api_keys.empty() || exposure.more_keys || exposure.allow_unauthenticated;
  if (is_loopback(exposure.host) || guarded) return {};
  return invalid_input(
      "--host {} is reachable from other machines and there is no key: give --api-key, or "
      "--allow-unauthenticated, or --host 127.0.0.1",
      exposure.host
  );
}

std::string listening_url(std::string_view host, std::uint16_t port) {
  const bool any = host == "0.0.0.0" || host == "::";
  return fmt::format("http://{}:{}", any ? "127.0.0.1" : host, port);
}

}  // namespace pleiad::apps
