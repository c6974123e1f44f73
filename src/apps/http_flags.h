#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace pleiad::apps {

// Where the flags that every verb with an HTTP port has put what they are given. Borrowed; filled
// when the arguments are parsed.
struct HttpFlags {
  std::string& host;
  std::uint16_t& port;
  std::vector<std::string>& api_keys;
  std::string& key_file;
  bool& allow_unauthenticated;
  std::vector<std::string>& served_names;
  double& drain_timeout_seconds;
  std::string& log_level;
};

// Adds --host, --port, --api-key, --api-key-file, --allow-unauthenticated, --served-model-name,
// --drain-timeout and --log-level to `verb`.
void add_http_flags(CLI::App& verb, const HttpFlags& flags);

}  // namespace pleiad::apps
