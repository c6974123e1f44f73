// Values as JSON text, laid out as Python's json module does.
#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "base/utf8.h"
#include "text/detail/jinja_format.h"
#include "text/detail/python_text.h"

namespace pleiad::text::detail {
namespace {

class JsonWriter {
 public:
  JsonWriter(Runtime& runtime, const JsonStyle& style) : runtime_(runtime), style_(style) {}

  Result<void> write(const Value& value, int level) {
    PLEIAD_TRY(runtime_.spend(1));
    if (const auto scalar = scalar_of(value)) {
      out_ += *scalar;
      return {};
    }
    if (const TrackedText* text = value.text()) return write_string(text->bytes());
    if (const Dict* dict = value.dict()) return write_dict(*dict, level);
    const Sequence* sequence = value.sequence();
    const bool listed = sequence != nullptr && (sequence->kind == SequenceKind::List ||
                                                sequence->kind == SequenceKind::Tuple);
    if (!listed) return invalid_input("a value of type {} has no JSON form", type_name(value));
    return write_list(sequence->items, level);
  }

  std::string take() { return std::move(out_); }

 private:
  static std::optional<std::string> scalar_of(const Value& value) {
    if (value.is_none()) return "null";
    if (const auto* flag = value.get<bool>()) return *flag ? "true" : "false";
    if (const auto* whole = value.get<std::int64_t>()) return std::to_string(*whole);
    const auto* real = value.get<double>();
    if (real == nullptr) return std::nullopt;
    if (std::isnan(*real)) return "NaN";
    if (std::isinf(*real)) return *real > 0 ? "Infinity" : "-Infinity";
    return python_float(*real);
  }

  void new_line(int level) {
    if (!style_.indent) return;
    out_ += '\n';
    for (int i = 0; i < level; ++i) {
      out_ += *style_.indent;
    }
  }

  Result<void> write_list(const std::vector<Value>& items, int level) {
    if (items.empty()) {
      out_ += "[]";
      return {};
    }
    out_ += '[';
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out_ += style_.item_separator;
      PLEIAD_TRY(begin_line(level + 1));
      PLEIAD_TRY(write(items[i], level + 1));
    }
    new_line(level);
    out_ += ']';
    return {};
  }

  // Indentation is output that no value pays for.
  Result<void> begin_line(int level) {
    if (!style_.indent) return {};
    PLEIAD_TRY(runtime_.spend_bytes(style_.indent->size() * static_cast<std::size_t>(level)));
    new_line(level);
    return {};
  }

  Result<std::string> key_text(const Value& key) const {
    if (const TrackedText* text = key.text()) return text->bytes();
    if (auto scalar = scalar_of(key)) return *scalar;
    return invalid_input("a key of type {} has no JSON form", type_name(key));
  }

  Result<void> write_dict(const Dict& dict, int level) {
    if (dict.members.empty()) {
      out_ += "{}";
      return {};
    }
    std::vector<std::pair<std::string, const Value*>> members;
    for (const auto& [key, value] : dict.members) {
      PLEIAD_TRY(name, key_text(key));
      members.emplace_back(std::move(name), &value);
    }
    if (style_.sort_keys) {
      std::stable_sort(members.begin(), members.end(), [](const auto& a, const auto& b) {
        return a.first < b.first;
      });
    }
    out_ += '{';
    for (std::size_t i = 0; i < members.size(); ++i) {
      if (i > 0) out_ += style_.item_separator;
      PLEIAD_TRY(begin_line(level + 1));
      PLEIAD_TRY(write_string(members[i].first));
      out_ += style_.key_separator;
      PLEIAD_TRY(write(*members[i].second, level + 1));
    }
    new_line(level);
    out_ += '}';
    return {};
  }

  // The UTF-16 units of a character, each as an escape.
  void append_units(char32_t point) {
    if (point >= 0x10000) {
      out_ += fmt::format("\\u{:04x}", 0xD800U + ((point - 0x10000U) >> 10U));
      point = 0xDC00U + ((point - 0x10000U) & 0x3FFU);
    }
    out_ += fmt::format("\\u{:04x}", static_cast<unsigned>(point));
  }

  Result<void> write_string(std::string_view text) {
    PLEIAD_TRY(runtime_.spend_bytes(text.size()));
    constexpr std::string_view kSpecial = "\"\\\n\r\t\b\f";
    constexpr std::string_view kLetters = "\"\\nrtbf";
    out_ += '"';
    while (!text.empty()) {
      const auto point = decode_utf8(text);
      if (!point) break;
      const char32_t c = point->value;
      const std::size_t special = c < 0x80 ? kSpecial.find(text[0]) : std::string_view::npos;
      if (special != std::string_view::npos) {
        out_ += '\\';
        out_ += kLetters[special];
      } else if (c < 0x20 || (c >= 0x80 && style_.ascii_only)) {
        append_units(c);
      } else {
        out_.append(text.substr(0, point->bytes));
      }
      text.remove_prefix(point->bytes);
    }
    out_ += '"';
    return {};
  }

  Runtime& runtime_;
  const JsonStyle& style_;
  std::string out_;
};

}  // namespace

Result<TrackedText> to_json(Runtime& runtime, const Value& value, const JsonStyle& style) {
  JsonWriter writer(runtime, style);
  PLEIAD_TRY(writer.write(value, 0));
  return TrackedText(writer.take(), is_untrusted(value));
}

}  // namespace pleiad::text::detail
