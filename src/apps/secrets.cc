#include "apps/secrets.h"

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "weights/read_file.h"

namespace pleiad::apps {
namespace {

std::string environment(const char* name) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe)
  return value == nullptr ? "" : value;
}

Result<void>
read_keys(const char* variable, const std::string& file, std::vector<std::string>& keys) {
  const std::string key = environment(variable);
  if (!key.empty()) keys.push_back(key);
  if (file.empty()) return {};
  constexpr std::size_t kKeyFileBytesMax = std::size_t{1} << 20U;
  PLEIAD_TRY(text, weights::read_text_file(file, kKeyFileBytesMax));
  std::string_view rest = text;
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    const std::size_t end = line.find_last_not_of(" \t\r");
    if (end != std::string_view::npos) keys.emplace_back(line.substr(0, end + 1));
  }
  return {};
}

}  // namespace

Result<std::string> read_cluster_secret(const std::string& file) {
  if (file.empty()) return environment("PLEIAD_CLUSTER_SECRET");
  constexpr std::size_t kSecretBytesMax = 4096;
  PLEIAD_TRY(text, weights::read_text_file(file, kSecretBytesMax));
  const std::size_t end = text.find_last_not_of(" \t\r\n");
  return end == std::string::npos ? "" : text.substr(0, end + 1);
}

Result<void> read_api_keys(const std::string& file, std::vector<std::string>& keys) {
  return read_keys("PLEIAD_API_KEY", file, keys);
}

Result<void> read_admin_keys(const std::string& file, std::vector<std::string>& keys) {
  return read_keys("PLEIAD_ADMIN_KEY", file, keys);
}

}  // namespace pleiad::apps
