#include "server/field_reader.h"

#include <cmath>
#include <utility>

#include <fmt/core.h>

namespace pleiad::server {
namespace {

// A value as it may be shown in an error: short.
std::string shown(const Json& value) {
  constexpr std::size_t kShownBytes = 64;
  std::string text =
      value.is_array() || value.is_object() ? std::string(value.type_name()) : value.dump();
  if (text.size() > kShownBytes) text = text.substr(0, kShownBytes) + "...";
  return text;
}

}  // namespace

const Json* FieldReader::find(std::string_view key) const {
  const Json* value = object_.find(key);
  return value == nullptr || value->is_null() ? nullptr : value;
}

bool FieldReader::boolean(std::string_view key, bool fallback) {
  const Json* value = find(key);
  if (value == nullptr) return fallback;
  if (const auto flag = value->as_bool()) return *flag;
  fail(bad_parameter(key, fmt::format("{} must be true or false, got {}", key, shown(*value))));
  return fallback;
}

std::int64_t FieldReader::integer(
    std::string_view key,
    std::int64_t fallback,
    std::int64_t low,
    std::int64_t high
) {
  return integer_if(key, low, high).value_or(fallback);
}

std::optional<std::int64_t>
FieldReader::integer_if(std::string_view key, std::int64_t low, std::int64_t high) {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  const auto number = value->as_int();
  if (number && *number >= low && *number <= high) return number;
  fail(bad_parameter(
      key,
      fmt::format("{} must be an integer between {} and {}, got {}", key, low, high, shown(*value))
  ));
  return std::nullopt;
}

double FieldReader::number(std::string_view key, double fallback, double low, double high) {
  const Json* value = find(key);
  if (value == nullptr) return fallback;
  const auto number = value->as_double();
  if (number && *number >= low && *number <= high) return *number;
  fail(bad_parameter(
      key,
      fmt::format("{} must be a number between {} and {}, got {}", key, low, high, shown(*value))
  ));
  return fallback;
}

std::string FieldReader::text(std::string_view key, std::string_view fallback) {
  const Json* value = find(key);
  if (value == nullptr) return std::string(fallback);
  if (const std::string* text = value->as_string()) return *text;
  fail(bad_parameter(key, fmt::format("{} must be a string, got {}", key, shown(*value))));
  return std::string(fallback);
}

std::vector<std::string> FieldReader::texts(std::string_view key, std::size_t count_max) {
  const Json* value = find(key);
  if (value == nullptr) return {};
  if (const std::string* one = value->as_string()) return {*one};
  const JsonArray* list = value->as_array();
  if (list == nullptr || list->size() > count_max) {
    fail(bad_parameter(
        key, fmt::format("{} must be a string or a list of at most {} strings", key, count_max)
    ));
    return {};
  }
  std::vector<std::string> out;
  for (const Json& item : *list) {
    const std::string* text = item.as_string();
    if (text == nullptr) {
      fail(bad_parameter(key, fmt::format("{} must hold strings, got {}", key, shown(item))));
      return {};
    }
    out.push_back(*text);
  }
  return out;
}

void FieldReader::refuse(std::string_view key, std::string message) {
  if (find(key) == nullptr) return;
  ApiError error = bad_parameter(key, std::move(message));
  error.code = "unsupported_parameter";
  fail(std::move(error));
}

void FieldReader::fail(ApiError error) {
  if (!error_) error_ = std::move(error);
}

}  // namespace pleiad::server
