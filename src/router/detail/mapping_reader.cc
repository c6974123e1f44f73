#include "router/detail/mapping_reader.h"

#include <algorithm>

#include "base/spelling.h"

namespace pleiad::router {
namespace {

constexpr std::size_t kShownBytesMax = 64;

// A value as it may stand in a message.
std::string shown(const Json& value) {
  if (value.is_array() || value.is_object()) return fmt::format("an {}", value.type_name());
  return value.dump().substr(0, kShownBytesMax);
}

}  // namespace

Result<MappingReader>
MappingReader::open(const Json& value, std::string where, std::span<const std::string_view> known) {
  const std::string name = where.empty() ? "the file" : where;
  const JsonObject* members = value.as_object();
  if (members == nullptr) {
    return invalid_input("{} must be a mapping of {}, got {}", name, listed(known), shown(value));
  }
  MappingReader reader(value, std::move(where));
  for (const auto& [key, member] : *members) {
    if (std::ranges::find(known, key) == known.end()) {
      return invalid_input(
          "{} is no key of a policy file; nearest: {} (known: {})",
          reader.path_of(key.substr(0, kShownBytesMax)),
          nearest_word(key, known),
          listed(known)
      );
    }
    if (member.is_null()) {
      return invalid_input("{} has no value; leave the key out instead", reader.path_of(key));
    }
  }
  return reader;
}

std::string MappingReader::path_of(std::string_view key) const {
  return where_.empty() ? std::string(key) : fmt::format("{}.{}", where_, key);
}

Result<std::optional<std::int64_t>>
MappingReader::integer(std::string_view key, std::int64_t low, std::int64_t high) const {
  const Json* value = find(key);
  if (value == nullptr) return std::optional<std::int64_t>();
  const auto number = value->as_int();
  if (number && *number >= low && *number <= high) return number;
  const std::string nearest =
      number ? fmt::format("; nearest valid value {}", std::clamp(*number, low, high)) : "";
  return invalid_input(
      "{} must be a whole number from {} to {}, got {}{}",
      path_of(key),
      low,
      high,
      shown(*value),
      nearest
  );
}

Result<std::optional<double>> MappingReader::number(std::string_view key, double low, double high)
    const {
  const Json* value = find(key);
  if (value == nullptr) return std::optional<double>();
  const auto number = value->as_double();
  if (number && *number >= low && *number <= high) return number;
  const std::string nearest =
      number ? fmt::format("; nearest valid value {}", std::clamp(*number, low, high)) : "";
  return invalid_input(
      "{} must be a number from {} to {}, got {}{}", path_of(key), low, high, shown(*value), nearest
  );
}

Result<std::optional<std::string>> MappingReader::text(std::string_view key) const {
  const Json* value = find(key);
  if (value == nullptr) return std::optional<std::string>();
  const std::string* text = value->as_string();
  if (text != nullptr) return std::optional(*text);
  return invalid_input(
      "{} must be a text, got {}; quote what reads as a number", path_of(key), shown(*value)
  );
}

Result<std::vector<std::string>> MappingReader::texts(std::string_view key, std::size_t count_max)
    const {
  const Json* value = find(key);
  if (value == nullptr) return std::vector<std::string>();
  if (const std::string* one = value->as_string()) return std::vector<std::string>{*one};
  PLEIAD_TRY(items, list(key, count_max));
  if (items->empty()) return invalid_input("{} is empty; leave it out instead", path_of(key));
  std::vector<std::string> out;
  for (const Json& item : *items) {
    const std::string* text = item.as_string();
    if (text == nullptr) {
      return invalid_input(
          "{}[{}] must be a text, got {}; quote what reads as a number",
          path_of(key),
          out.size(),
          shown(item)
      );
    }
    out.push_back(*text);
  }
  return out;
}

Result<const JsonArray*> MappingReader::list(std::string_view key, std::size_t count_max) const {
  const Json* value = find(key);
  const JsonArray* none = nullptr;
  if (value == nullptr) return none;
  const JsonArray* items = value->as_array();
  if (items == nullptr) {
    return invalid_input("{} must be a list, got {}", path_of(key), shown(*value));
  }
  if (items->size() > count_max) {
    return invalid_input(
        "{} has {} entries; at most {} are read", path_of(key), items->size(), count_max
    );
  }
  return items;
}

}  // namespace pleiad::router
