#include "plan/config_file.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/yaml.h"

namespace pleiad::plan {
namespace {

constexpr std::size_t kNameLengthMax = 64;

bool is_container(const Json& value) {
  return value.is_array() || value.is_object();
}

// How a flag's value is written on a command line.
std::string value_text(const Json& value) {
  const std::string* text = value.as_string();
  return text != nullptr ? *text : value.dump();
}

// The flag a key names: "ep_size" is ep-size.
Result<std::string> flag_name(const std::string& key) {
  std::string name = key;
  std::replace(name.begin(), name.end(), '_', '-');
  const bool plain =
      name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") == std::string::npos;
  const bool named = !name.empty() && name.front() != '-' && name.size() <= kNameLengthMax;
  if (plain && named) return name;
  return invalid_input(
      "\"{}\" is no flag's name; keys are written like ep-size or ep_size, without leading dashes",
      key.substr(0, kNameLengthMax)
  );
}

Result<std::vector<std::string>> flag_values(const Json& value) {
  if (value.is_null()) return invalid_input("has no value; leave the key out instead");
  const JsonArray* list = value.as_array();
  if (list == nullptr) return std::vector<std::string>{value_text(value)};
  if (list->empty()) return invalid_input("is an empty list; leave the key out instead");
  if (std::any_of(list->begin(), list->end(), is_container)) {
    return std::vector<std::string>{value.dump()};
  }
  std::vector<std::string> values;
  for (const Json& item : *list) {
    if (item.is_null()) return invalid_input("has a list entry without a value");
    values.push_back(value_text(item));
  }
  return values;
}

Result<Json> parse(std::string_view text, const ConfigFileLimits& limits) {
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  const bool json = first != std::string_view::npos && text[first] == '{';
  if (json) return parse_json(text, {.depth_max = limits.depth_max, .bytes_max = limits.bytes_max});
  return parse_yaml(text, {.depth_max = limits.depth_max, .bytes_max = limits.bytes_max});
}

Result<ConfigFile> mindie_file(const Json& root) {
  PLEIAD_TRY(mindie, read_mindie_config(root));
  PLEIAD_TRY(mindie.check());
  ConfigFile file{.flags = mindie.flags()};
  file.mindie = std::move(mindie);
  return file;
}

}  // namespace

Result<ConfigFile> read_config_file(std::string_view text, const ConfigFileLimits& limits) {
  PLEIAD_TRY(root, parse(text, limits));
  if (is_mindie_config(root)) return mindie_file(root);
  ConfigFile file;
  if (root.is_null()) return file;
  const JsonObject* members = root.as_object();
  if (members == nullptr) {
    return invalid_input(
        "a config file maps flags to values; this one holds a {}", root.type_name()
    );
  }
  if (members->size() > limits.flags_max) {
    return invalid_input(
        "a config file of {} keys; at most {} are read", members->size(), limits.flags_max
    );
  }
  for (const auto& [key, value] : *members) {
    PLEIAD_TRY(flag, flag_name(key));
    for (const FlagSetting& earlier : file.flags) {
      if (earlier.flag == flag) return invalid_input("\"{}\" gives --{} a second time", key, flag);
    }
    auto values = flag_values(value);
    if (!values.ok()) return invalid_input("\"{}\" {}", key, values.error().message);
    file.flags.push_back({flag, *std::move(values)});
  }
  return file;
}

}  // namespace pleiad::plan
