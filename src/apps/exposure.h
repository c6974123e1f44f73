#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace pleiad::apps {

// Where a server can be reached, and by whom.
struct Exposure {
  std::string host;
  std::vector<std::string> api_keys;
  bool allow_unauthenticated = false;
  bool more_keys = false;  // of a policy file
};

// Beyond loopback a key is needed, or the wish to do without; no key is empty. Fails with
// InvalidInput that names the flags.
Result<void> check_exposure(const Exposure& exposure);

// What this machine's clients call a server that listens on `host`.
std::string listening_url(std::string_view host, std::uint16_t port);

}  // namespace pleiad::apps
