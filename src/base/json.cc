#include "base/json.h"

#include <cmath>
#include <limits>

#include <nlohmann/json.hpp>

#include "base/utf8.h"

namespace pleiad {
namespace {

// Builds a Json from nlohmann's event stream, so that depth is bounded before anything is stored.
class Builder final : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit Builder(const JsonLimits& limits) : limits_(limits) {}

  bool null() override { return put(Json()); }
  bool boolean(bool value) override { return put(Json(value)); }
  bool number_integer(std::int64_t value) override { return put(Json(value)); }
  bool number_unsigned(std::uint64_t value) override { return put(Json(value)); }
  bool number_float(double value, const std::string& text) override {
    if (!std::isfinite(value)) return fail("number out of range: " + text);
    return put(Json(value));
  }
  bool string(std::string& value) override { return put(Json(std::move(value))); }
  bool binary(nlohmann::json::binary_t& /*value*/) override { return fail("binary value"); }
  bool start_object(std::size_t /*elements*/) override { return open(Json(JsonObject{})); }
  bool start_array(std::size_t /*elements*/) override { return open(Json(JsonArray{})); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(std::string& value) override {
    auto& members = *open_.back().value.as_object();
    if (limits_.reject_duplicate_keys && members.size() <= kDuplicateScanMax) {
      for (const auto& member : members) {
        if (member.first == value) return fail("duplicate key \"" + value + "\"");
      }
    }
    open_.back().key = std::move(value);
    return true;
  }

  bool parse_error(
      std::size_t position,
      const std::string& /*token*/,
      const nlohmann::json::exception& /*error*/
  ) override {
    if (message_.empty()) message_ = fmt::format("malformed JSON near byte {}", position);
    return false;
  }

  [[nodiscard]] const std::string& message() const { return message_; }
  Json take() { return std::move(root_); }

 private:
  // Large objects (vocabularies) are not scanned for duplicates: it would be quadratic.
  static constexpr std::size_t kDuplicateScanMax = 256;

  struct Open {
    Json value;
    std::string key;  // of the member being read, when value is an object
  };

  bool fail(std::string message) {
    message_ = std::move(message);
    return false;
  }

  bool open(Json container) {
    if (open_.size() >= limits_.depth_max) {
      return fail(fmt::format("JSON nested deeper than {} levels", limits_.depth_max));
    }
    open_.push_back({std::move(container), {}});
    return true;
  }

  bool close() {
    Json done = std::move(open_.back().value);
    open_.pop_back();
    return put(std::move(done));
  }

  bool put(Json value) {
    if (open_.empty()) {
      root_ = std::move(value);
    } else if (JsonArray* array = open_.back().value.as_array()) {
      array->push_back(std::move(value));
    } else {
      open_.back().value.as_object()->emplace_back(std::move(open_.back().key), std::move(value));
    }
    return true;
  }

  const JsonLimits& limits_;
  std::vector<Open> open_;
  Json root_;
  std::string message_;
};

void append_double(double value, std::string& out) {
  if (!std::isfinite(value)) {
    out += "null";
    return;
  }
  std::string text = fmt::format("{}", value);
  // A double that happens to be whole still reads as a number with a fraction.
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  out += text;
}

}  // namespace

Json::Json(std::uint64_t value) {
  if (value <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
    value_ = static_cast<std::int64_t>(value);
  } else {
    value_ = value;
  }
}

bool Json::is_integer() const {
  return std::holds_alternative<std::int64_t>(value_) ||
         std::holds_alternative<std::uint64_t>(value_);
}

bool Json::is_number() const {
  return is_integer() || std::holds_alternative<double>(value_);
}

std::string_view Json::type_name() const {
  if (is_null()) return "null";
  if (is_bool()) return "boolean";
  if (is_integer()) return "integer";
  if (is_number()) return "number";
  if (is_string()) return "string";
  return is_array() ? "array" : "object";
}

std::optional<bool> Json::as_bool() const {
  const bool* value = std::get_if<bool>(&value_);
  return value == nullptr ? std::nullopt : std::optional(*value);
}

std::optional<std::int64_t> Json::as_int() const {
  if (const auto* value = std::get_if<std::int64_t>(&value_)) return *value;
  if (const auto* value = std::get_if<double>(&value_)) {
    // 2^63 itself is a double, and does not fit.
    const bool fits = *value >= -0x1p63 && *value < 0x1p63 && std::trunc(*value) == *value;
    if (fits) return static_cast<std::int64_t>(*value);
  }
  return std::nullopt;
}

std::optional<double> Json::as_double() const {
  if (const auto* value = std::get_if<double>(&value_)) return *value;
  if (const auto* value = std::get_if<std::int64_t>(&value_)) return static_cast<double>(*value);
  if (const auto* value = std::get_if<std::uint64_t>(&value_)) return static_cast<double>(*value);
  return std::nullopt;
}

const Json* Json::find(std::string_view key) const {
  const JsonObject* members = as_object();
  if (members == nullptr) return nullptr;
  for (const auto& [name, value] : *members) {
    if (name == key) return &value;
  }
  return nullptr;
}

void Json::set(std::string_view key, Json value) {
  if (is_null()) value_ = JsonObject{};
  JsonObject* members = as_object();
  PLEIAD_CHECK(members != nullptr, "set() on a value that is no object");
  for (auto& [name, old] : *members) {
    if (name == key) {
      old = std::move(value);
      return;
    }
  }
  members->emplace_back(std::string(key), std::move(value));
}

std::string Json::dump() const {
  std::string out;
  dump_to(out);
  return out;
}

void Json::dump_to(std::string& out) const {
  if (const auto* number = std::get_if<std::int64_t>(&value_)) {
    out += std::to_string(*number);
  } else if (const auto* wide = std::get_if<std::uint64_t>(&value_)) {
    out += std::to_string(*wide);
  } else if (const auto* real = std::get_if<double>(&value_)) {
    append_double(*real, out);
  } else if (const auto* text = as_string()) {
    append_json_string(*text, out);
  } else if (const auto* items = as_array()) {
    out += '[';
    for (const Json& item : *items) {
      if (&item != items->data()) out += ',';
      item.dump_to(out);
    }
    out += ']';
  } else if (const auto* members = as_object()) {
    out += '{';
    for (const auto& member : *members) {
      if (&member != members->data()) out += ',';
      append_json_string(member.first, out);
      out += ':';
      member.second.dump_to(out);
    }
    out += '}';
  } else {
    out += is_null() ? "null" : (*as_bool() ? "true" : "false");
  }
}

Result<Json> parse_json(std::string_view text, const JsonLimits& limits) {
  if (text.size() > limits.bytes_max) {
    return invalid_input("JSON of {} bytes; at most {} are read", text.size(), limits.bytes_max);
  }
  Builder builder(limits);
  const bool ok = nlohmann::json::sax_parse(text.begin(), text.end(), &builder);
  if (!ok) return invalid_input("{}", builder.message());
  return builder.take();
}

void append_json_string(std::string_view text, std::string& out) {
  if (!is_valid_utf8(text)) {
    append_json_string(replace_invalid_utf8(text), out);
    return;
  }
  out += '"';
  for (const char c : text) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
          out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
        } else {
          out += c;
        }
    }
  }
  out += '"';
}

}  // namespace pleiad
