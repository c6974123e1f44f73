#include "model/config_reader.h"

#include <utility>

namespace pleiad::model {
namespace {

constexpr std::int64_t kSizeMax = std::int64_t{1} << 24U;

}  // namespace

ConfigReader::ConfigReader(const Json& object, std::string path)
    : object_(object), path_(std::move(path)) {}

const Json* ConfigReader::peek(std::string_view key) const {
  const Json* value = object_.find(key);
  return value == nullptr || value->is_null() ? nullptr : value;
}

const Json* ConfigReader::find(std::string_view key) {
  read_.emplace(key);
  return peek(key);
}

const Json* ConfigReader::need(std::string_view key) {
  const Json* value = find(key);
  if (value == nullptr) fail(invalid_input("config.json: {}{} is missing", path_, key));
  return value;
}

std::int64_t ConfigReader::integer(std::string_view key, std::int64_t low) {
  const Json* value = need(key);
  if (value == nullptr) return low;
  const auto number = value->as_int();
  if (number && *number >= low && *number <= kSizeMax) return *number;
  fail(invalid_input(
      "config.json: {}{} must be an integer from {} to {}, got {}",
      path_,
      key,
      low,
      kSizeMax,
      value->dump()
  ));
  return low;
}

std::int64_t
ConfigReader::integer_or(std::string_view key, std::int64_t low, std::int64_t fallback) {
  return find(key) == nullptr ? fallback : integer(key, low);
}

double ConfigReader::number(std::string_view key) {
  const Json* value = need(key);
  if (value == nullptr) return 1.0;
  const auto number = value->as_double();
  if (number) return *number;
  fail(invalid_input("config.json: {}{} must be a number, got {}", path_, key, value->dump()));
  return 1.0;
}

double ConfigReader::number_or(std::string_view key, double fallback) {
  return find(key) == nullptr ? fallback : number(key);
}

bool ConfigReader::boolean_or(std::string_view key, bool fallback) {
  const Json* value = find(key);
  if (value == nullptr) return fallback;
  if (const auto flag = value->as_bool()) return *flag;
  fail(invalid_input("config.json: {}{} must be true or false, got {}", path_, key, value->dump()));
  return fallback;
}

std::string ConfigReader::text_or(std::string_view key, std::string_view fallback) {
  const Json* value = find(key);
  if (value == nullptr) return std::string(fallback);
  if (const std::string* text = value->as_string()) return *text;
  fail(invalid_input("config.json: {}{} must be a string, got {}", path_, key, value->dump()));
  return std::string(fallback);
}

std::vector<std::int64_t> ConfigReader::ids(std::string_view key) {
  const Json* value = find(key);
  if (value == nullptr) return {};
  const JsonArray one = {*value};
  const JsonArray* many = value->as_array();
  const JsonArray& list = many == nullptr ? one : *many;
  std::vector<std::int64_t> out;
  for (const Json& item : list) {
    const auto id = item.as_int();
    if (!id || *id < 0 || *id > kSizeMax) {
      fail(invalid_input("config.json: {}{} must hold token ids, got {}", path_, key, item.dump()));
      return {};
    }
    out.push_back(*id);
  }
  return out;
}

std::vector<std::int64_t> ConfigReader::integers(std::string_view key) {
  const Json* value = find(key);
  if (value == nullptr) return {};
  const JsonArray* list = value->as_array();
  std::vector<std::int64_t> out;
  for (const Json& item : list == nullptr ? JsonArray{*value} : *list) {
    const auto number = list == nullptr ? std::nullopt : item.as_int();
    if (!number || *number < 0 || *number > kSizeMax) {
      fail(invalid_input("config.json: {}{} must list numbers, got {}", path_, key, value->dump()));
      return {};
    }
    out.push_back(*number);
  }
  return out;
}

std::vector<std::string> ConfigReader::texts(std::string_view key) {
  const Json* value = find(key);
  if (value == nullptr) return {};
  const JsonArray* list = value->as_array();
  std::vector<std::string> out;
  for (const Json& item : list == nullptr ? JsonArray{*value} : *list) {
    const std::string* text = list == nullptr ? nullptr : item.as_string();
    if (text == nullptr) {
      fail(invalid_input("config.json: {}{} must list strings, got {}", path_, key, value->dump()));
      return {};
    }
    out.push_back(*text);
  }
  return out;
}

bool ConfigReader::was_read(std::string_view key) const {
  return read_.contains(key);
}

const Json* ConfigReader::unread(std::string_view key) const {
  return was_read(key) ? nullptr : peek(key);
}

std::vector<std::string> ConfigReader::unread_keys() const {
  std::vector<std::string> out;
  if (!object_.is_object()) return out;
  for (const auto& [key, value] : *object_.as_object()) {
    if (unread(key) != nullptr) out.push_back(key);
  }
  return out;
}

bool ConfigReader::has(std::string_view key) const {
  return peek(key) != nullptr;
}

const Json* ConfigReader::object(std::string_view key) const {
  const Json* value = peek(key);
  return value != nullptr && value->is_object() ? value : nullptr;
}

void ConfigReader::refuse(
    std::string_view key,
    std::string_view value,
    std::string_view supported
) {
  fail(unsupported(
      "config.json: {}{} = {} is not supported; supported: {}", path_, key, value, supported
  ));
}

void ConfigReader::fail(Error error) {
  if (!error_) error_ = std::move(error);
}

Result<void> ConfigReader::result() const {
  if (error_) return *error_;
  return {};
}

}  // namespace pleiad::model
