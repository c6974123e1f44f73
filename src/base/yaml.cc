#include "base/yaml.h"

#include <exception>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include "base/utf8.h"

namespace pleiad {
namespace {

std::string place(const YAML::Mark& mark) {
  if (mark.is_null()) return "YAML";
  return fmt::format("YAML line {} column {}", mark.line + 1, mark.column + 1);
}

// What a plain scalar means. JSON's grammar of numbers leaves leading zeros, hexadecimal and the
// like as the text they are.
Json plain_scalar(const std::string& text) {
  if (text == "true" || text == "True" || text == "TRUE") return true;
  if (text == "false" || text == "False" || text == "FALSE") return false;
  const bool may_be_number =
      text.find_first_not_of("0123456789+-.eE") == std::string::npos && text.size() <= 64;
  if (may_be_number) {
    const auto number = parse_json(text);
    if (number.ok() && number->is_number()) return *number;
  }
  return text;
}

// Builds a Json from yaml-cpp's events. The first failure is kept and the events after it are
// passed over: the parser cannot be stopped from inside.
class Builder final : public YAML::EventHandler {
 public:
  explicit Builder(const YamlLimits& limits) : limits_(limits) {}

  void OnDocumentStart(const YAML::Mark& /*mark*/) override {}
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    if (plain(mark, "?", anchor)) put(mark, Json());
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t /*anchor*/) override {
    fail(mark, "aliases are not read; write the value out");
  }

  void OnScalar(
      const YAML::Mark& mark,
      const std::string& tag,
      YAML::anchor_t anchor,
      const std::string& value
  ) override {
    if (!plain(mark, tag, anchor)) return;
    if (wants_key()) {
      take_key(mark, value);
    } else {
      put(mark, tag == "!" ? Json(value) : plain_scalar(value));
    }
  }

  void OnSequenceStart(
      const YAML::Mark& mark,
      const std::string& tag,
      YAML::anchor_t anchor,
      YAML::EmitterStyle::value /*style*/
  ) override {
    if (plain(mark, tag, anchor)) open(mark, Json(JsonArray{}));
  }

  void OnMapStart(
      const YAML::Mark& mark,
      const std::string& tag,
      YAML::anchor_t anchor,
      YAML::EmitterStyle::value /*style*/
  ) override {
    if (plain(mark, tag, anchor)) open(mark, Json(JsonObject{}));
  }

  void OnSequenceEnd() override { close(); }
  void OnMapEnd() override { close(); }

  [[nodiscard]] const std::string& message() const { return message_; }
  Json take() { return std::move(root_); }

 private:
  struct Open {
    Json value;
    std::string key;  // of the member being read, when value is an object
    bool has_key = false;
  };

  void fail(const YAML::Mark& mark, std::string_view what) {
    if (message_.empty()) message_ = fmt::format("{}: {}", place(mark), what);
  }

  // Whether to go on with a node: nothing failed before, and it has neither tag nor anchor.
  bool plain(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
    const bool untagged = tag.empty() || tag == "?" || tag == "!";
    if (!untagged) fail(mark, fmt::format("tag {} is not read", tag));
    if (anchor != YAML::NullAnchor) fail(mark, "anchors are not read; write the value out");
    return message_.empty();
  }

  [[nodiscard]] bool wants_key() const {
    return !open_.empty() && open_.back().value.is_object() && !open_.back().has_key;
  }

  void take_key(const YAML::Mark& mark, const std::string& key) {
    Open& top = open_.back();
    const JsonObject& members = *top.value.as_object();
    if (top.value.find(key) != nullptr) {
      fail(mark, fmt::format("duplicate key \"{}\"", key));
    } else if (members.size() >= limits_.members_max) {
      fail(mark, fmt::format("a mapping of more than {} keys", limits_.members_max));
    } else {
      top.key = key;
      top.has_key = true;
    }
  }

  void open(const YAML::Mark& mark, Json container) {
    if (wants_key()) {
      fail(mark, "a key must be a scalar");
    } else if (open_.size() >= limits_.depth_max) {
      fail(mark, fmt::format("nested deeper than {} levels", limits_.depth_max));
    } else {
      open_.push_back({std::move(container), {}});
    }
  }

  void close() {
    if (!message_.empty()) return;
    Json done = std::move(open_.back().value);
    open_.pop_back();
    put(YAML::Mark::null_mark(), std::move(done));
  }

  void put(const YAML::Mark& mark, Json value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return;
    }
    Open& top = open_.back();
    if (JsonArray* array = top.value.as_array()) {
      array->push_back(std::move(value));
    } else if (!top.has_key) {
      fail(mark, "a key must not be empty");
    } else {
      top.value.as_object()->emplace_back(std::move(top.key), std::move(value));
      top.has_key = false;
    }
  }

  const YamlLimits& limits_;
  std::vector<Open> open_;
  Json root_;
  std::string message_;
};

}  // namespace

Result<Json> parse_yaml(std::string_view text, const YamlLimits& limits) {
  if (text.size() > limits.bytes_max) {
    return invalid_input("YAML of {} bytes; at most {} are read", text.size(), limits.bytes_max);
  }
  if (!is_valid_utf8(text)) return invalid_input("YAML must be well-formed UTF-8");
  Builder builder(limits);
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    parser.HandleNextDocument(builder);
    if (!builder.message().empty()) return invalid_input("{}", builder.message());
    Json first = builder.take();
    if (parser.HandleNextDocument(builder)) {
      return invalid_input("YAML of more than one document; exactly one is read");
    }
    return first;
  } catch (const YAML::Exception& error) {
    return invalid_input("{}: {}", place(error.mark), error.msg);
  } catch (const std::exception& error) {
    return invalid_input("YAML cannot be read: {}", error.what());
  }
}

}  // namespace pleiad
