#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.h"

namespace pleiad {

class Json;
using JsonArray = std::vector<Json>;

// Members in the order they were written. Lookup walks them: objects from outside are small, or are
// read once (tokenizer vocabularies) by iterating.
using JsonObject = std::vector<std::pair<std::string, Json>>;

// One JSON value (RFC 8259). Integers keep their sign and 64 bits; anything else numeric is a
// double. A plain value type: copying copies the tree. Accessors never throw; asking for the wrong
// type gives nothing.
class Json {
 public:
  Json() = default;                                             // null
  Json(std::nullptr_t) {}                                       // NOLINT
  Json(bool value) : value_(value) {}                           // NOLINT
  Json(int value) : value_(std::int64_t{value}) {}              // NOLINT
  Json(std::int64_t value) : value_(value) {}                   // NOLINT
  Json(std::uint64_t value);                                    // NOLINT
  Json(double value) : value_(value) {}                         // NOLINT
  Json(const char* value) : value_(std::string(value)) {}       // NOLINT
  Json(std::string_view value) : value_(std::string(value)) {}  // NOLINT
  Json(std::string value) : value_(std::move(value)) {}         // NOLINT
  Json(JsonArray value) : value_(std::move(value)) {}           // NOLINT
  Json(JsonObject value) : value_(std::move(value)) {}          // NOLINT

  [[nodiscard]] bool is_null() const { return std::holds_alternative<std::monostate>(value_); }
  [[nodiscard]] bool is_bool() const { return std::holds_alternative<bool>(value_); }
  [[nodiscard]] bool is_integer() const;
  [[nodiscard]] bool is_number() const;
  [[nodiscard]] bool is_string() const { return std::holds_alternative<std::string>(value_); }
  [[nodiscard]] bool is_array() const { return std::holds_alternative<JsonArray>(value_); }
  [[nodiscard]] bool is_object() const { return std::holds_alternative<JsonObject>(value_); }
  // "null", "boolean", "integer", "number", "string", "array" or "object", for error texts.
  [[nodiscard]] std::string_view type_name() const;

  [[nodiscard]] std::optional<bool> as_bool() const;
  // Integers that fit, and doubles that are whole and fit exactly.
  [[nodiscard]] std::optional<std::int64_t> as_int() const;
  [[nodiscard]] std::optional<double> as_double() const;
  [[nodiscard]] const std::string* as_string() const { return std::get_if<std::string>(&value_); }
  [[nodiscard]] const JsonArray* as_array() const { return std::get_if<JsonArray>(&value_); }
  [[nodiscard]] const JsonObject* as_object() const { return std::get_if<JsonObject>(&value_); }
  [[nodiscard]] JsonArray* as_array() { return std::get_if<JsonArray>(&value_); }
  [[nodiscard]] JsonObject* as_object() { return std::get_if<JsonObject>(&value_); }

  // The member `key` of an object, or null when this is no object or has no such member.
  [[nodiscard]] const Json* find(std::string_view key) const;
  // Sets or replaces member `key`; a null value becomes an object first.
  void set(std::string_view key, Json value);

  // Compact text. Ill-formed UTF-8 in strings is written as U+FFFD; NaN and infinities as null.
  [[nodiscard]] std::string dump() const;
  void dump_to(std::string& out) const;

  friend bool operator==(const Json&, const Json&) = default;

 private:
  std::variant<
      std::monostate,
      bool,
      std::int64_t,
      std::uint64_t,
      double,
      std::string,
      JsonArray,
      JsonObject>
      value_;
};

struct JsonLimits {
  std::size_t depth_max = 64;          // nesting of arrays and objects
  std::size_t bytes_max = 64U << 20U;  // length of the text
  bool reject_duplicate_keys = true;   // otherwise the last one wins
};

// Parses exactly one JSON text. Fails with InvalidInput, naming the byte offset, on malformed text,
// ill-formed UTF-8, numbers that overflow a double, and broken limits. Never recurses.
Result<Json> parse_json(std::string_view text, const JsonLimits& limits = {});

// Appends `text` as a JSON string with quotes, escaping what JSON demands.
void append_json_string(std::string_view text, std::string& out);

}  // namespace pleiad
