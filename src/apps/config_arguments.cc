#include "apps/config_arguments.h"

#include <optional>
#include <string_view>
#include <utility>

#include "plan/config_file.h"
#include "weights/read_file.h"

namespace pleiad::apps {
namespace {

constexpr std::string_view kFlag = "--config";

// Takes the flag and its value out of `arguments`; nothing when it is not there. Fails without a
// value or when it stands twice.
Result<std::optional<std::string>> take_config(std::vector<std::string>& arguments) {
  std::optional<std::string> path;
  for (std::size_t i = 0; i < arguments.size();) {
    const std::string& argument = arguments[i];
    const bool joined = argument.starts_with("--config=");
    if (!joined && argument != kFlag) {
      ++i;
      continue;
    }
    if (path) return invalid_input("--config stands twice; once is enough");
    if (!joined && i + 1 == arguments.size()) return invalid_input("--config needs a file");
    path = joined ? argument.substr(kFlag.size() + 1) : arguments[i + 1];
    const auto at = arguments.begin() + static_cast<std::ptrdiff_t>(i);
    arguments.erase(at, at + (joined ? 1 : 2));
  }
  return path;
}

}  // namespace

Result<std::vector<std::string>>
with_config_file(std::vector<std::string> arguments, std::string& notes) {
  PLEIAD_TRY(path, take_config(arguments));
  if (!path) return arguments;
  const plan::ConfigFileLimits limits;
  PLEIAD_TRY(text, weights::read_text_file(*path, limits.bytes_max));
  auto read = plan::read_config_file(text, limits);
  if (!read.ok()) return with_context(std::move(read).error(), *path);
  if (read->mindie) notes = read->mindie->to_text();
  // Right behind the verb, so that everything else comes later.
  std::vector<std::string> flags;
  for (const plan::FlagSetting& setting : read->flags) {
    for (const std::string& value : setting.values) {
      flags.push_back("--" + setting.flag + "=" + value);
    }
  }
  const std::ptrdiff_t verb = arguments.empty() ? 0 : 1;
  arguments.insert(arguments.begin() + verb, flags.begin(), flags.end());
  return arguments;
}

}  // namespace pleiad::apps
