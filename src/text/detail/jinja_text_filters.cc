// Filters on text and numbers.
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include <fmt/format.h>

#include "base/utf8.h"
#include "text/detail/jinja_filters.h"
#include "text/detail/jinja_format.h"
#include "text/detail/jinja_operators.h"
#include "text/detail/python_text.h"

namespace pleiad::text::detail {
namespace {

using MapCharacter = void (*)(char32_t, std::string&);

// Appends `part` of `text` with every character mapped; marks follow their characters.
void append_mapped(
    TrackedText& out,
    const TrackedText& text,
    TextRange part,
    MapCharacter map_character
) {
  const TrackedText piece = text.slice(part);
  for (const TrackedText::Run& run : piece.runs()) {
    std::string mapped;
    std::string_view rest = run.bytes;
    while (!rest.empty()) {
      const auto point = decode_utf8(rest);
      // A run may start inside a character only where two origins meet in one: keep such bytes.
      if (!point) {
        mapped += rest.front();
        rest.remove_prefix(1);
        continue;
      }
      map_character(point->value, mapped);
      rest.remove_prefix(point->bytes);
    }
    out.append(mapped, run.untrusted);
  }
}

std::size_t first_character_end(std::string_view text, std::size_t from) {
  const auto point = decode_utf8(text.substr(from));
  return from + (point ? point->bytes : 1);
}

Result<Value> filter_upper(Runtime& runtime, const Value& value, const Arguments& arguments) {
  PLEIAD_TRY(bind(arguments, "filter 'upper'", {}));
  PLEIAD_TRY(text, to_text(runtime, value));
  return upper(runtime, text);
}

Result<Value> filter_lower(Runtime& runtime, const Value& value, const Arguments& arguments) {
  PLEIAD_TRY(bind(arguments, "filter 'lower'", {}));
  PLEIAD_TRY(text, to_text(runtime, value));
  return lower(runtime, text);
}

Result<Value> filter_capitalize(Runtime& runtime, const Value& value, const Arguments& arguments) {
  PLEIAD_TRY(bind(arguments, "filter 'capitalize'", {}));
  PLEIAD_TRY(text, to_text(runtime, value));
  return capitalize(runtime, text);
}

// Words start behind blanks, hyphens and opening brackets.
Result<Value> filter_title(Runtime& runtime, const Value& value, const Arguments& arguments) {
  PLEIAD_TRY(bind(arguments, "filter 'title'", {}));
  PLEIAD_TRY(text, to_text(runtime, value));
  const std::string_view all = text.bytes();
  TrackedText out;
  bool at_start = true;
  for (std::size_t at = 0; at < all.size();) {
    const std::size_t end = first_character_end(all, at);
    const auto point = decode_utf8(all.substr(at));
    const bool separates =
        point && (is_python_space(point->value) ||
                  (end == at + 1 && std::string_view("-({[<").find(all[at]) != std::string::npos));
    append_mapped(out, text, {at, end}, at_start ? append_upper : append_lower);
    at_start = separates;
    at = end;
  }
  return runtime.heap().text(std::move(out));
}

Result<Value> filter_trim(Runtime& runtime, const Value& value, const Arguments& arguments) {
  PLEIAD_TRY(bound, bind(arguments, "filter 'trim'", {"chars"}));
  PLEIAD_TRY(text, to_text(runtime, value));
  std::optional<std::string_view> chars;
  if (bound[0] != nullptr && bound[0]->text() != nullptr) chars = bound[0]->text()->bytes();
  return runtime.heap().text(text.slice(strip_range(text.bytes(), chars, Sides::Both)));
}

Result<Value> filter_string(Runtime& runtime, const Value& value, const Arguments& arguments) {
  PLEIAD_TRY(bind(arguments, "filter 'string'", {}));
  if (value.text() != nullptr) return value;
  PLEIAD_TRY(text, to_text(runtime, value));
  return runtime.heap().text(std::move(text));
}

Result<Value> filter_escape(Runtime& runtime, const Value& value, const Arguments& arguments) {
  PLEIAD_TRY(bind(arguments, "filter 'escape'", {}));
  PLEIAD_TRY(text, to_text(runtime, value));
  TrackedText out;
  for (const TrackedText::Run& run : text.runs()) {
    std::string escaped;
    for (const char c : run.bytes) {
      switch (c) {
        case '&':
          escaped += "&amp;";
          break;
        case '<':
          escaped += "&lt;";
          break;
        case '>':
          escaped += "&gt;";
          break;
        case '"':
          escaped += "&#34;";
          break;
        case '\'':
          escaped += "&#39;";
          break;
        default:
          escaped += c;
      }
    }
    out.append(escaped, run.untrusted);
  }
  return runtime.heap().text(std::move(out));
}

Result<Value> filter_replace(Runtime& runtime, const Value& value, const Arguments& arguments) {
  PLEIAD_TRY(bound, bind(arguments, "filter 'replace'", {"old", "new", "count"}, 2));
  PLEIAD_TRY(text, to_text(runtime, value));
  PLEIAD_TRY(from, to_text(runtime, *bound[0]));
  PLEIAD_TRY(to, to_text(runtime, *bound[1]));
  const bool limited = bound[2] != nullptr && !bound[2]->is_none();
  PLEIAD_TRY(count, integer_or(limited ? bound[2] : nullptr, -1, "filter 'replace'"));
  return replace(runtime, text, from, to, count);
}

Result<Value> filter_indent(Runtime& runtime, const Value& value, const Arguments& arguments) {
  PLEIAD_TRY(bound, bind(arguments, "filter 'indent'", {"width", "first", "blank"}));
  PLEIAD_TRY(text, to_text(runtime, value));
  TrackedText indentation;
  if (bound[0] != nullptr && bound[0]->text() != nullptr) {
    indentation = *bound[0]->text();
  } else {
    PLEIAD_TRY(width, integer_or(bound[0], 4, "filter 'indent'"));
    if (width > 1000) return invalid_input("filter 'indent' by {}; at most 1000", width);
    indentation =
        TrackedText(std::string(static_cast<std::size_t>(std::max<std::int64_t>(width, 0)), ' '));
  }
  const bool first = bound[1] != nullptr && is_true(*bound[1]);
  const bool blank = bound[2] != nullptr && is_true(*bound[2]);
  text.append("\n", false);
  TrackedText out;
  bool is_first = true;
  for (const TextRange& line : line_ranges(text.bytes(), false)) {
    if (!is_first) out.append("\n", false);
    const bool indents = is_first ? first : (blank || line.begin < line.end);
    if (indents) out.append(indentation);
    out.append(text, line);
    is_first = false;
    PLEIAD_TRY(runtime.spend_bytes(indentation.size() + line.end - line.begin));
  }
  return runtime.heap().text(std::move(out));
}

std::string trimmed_number(std::string_view text) {
  const TextRange range = strip_range(text, std::nullopt, Sides::Both);
  std::string digits(text.substr(range.begin, range.end - range.begin));
  std::erase(digits, '_');
  if (!digits.empty() && digits[0] == '+') digits.erase(0, 1);
  return digits;
}

std::optional<double> parse_real(std::string_view text) {
  const std::string digits = trimmed_number(text);
  double real = 0;
  const char* end = digits.data() + digits.size();
  const auto read = std::from_chars(digits.data(), end, real);
  if (digits.empty() || read.ec != std::errc{} || read.ptr != end) return std::nullopt;
  return real;
}

std::optional<std::int64_t> parse_whole(std::string_view text, int base) {
  std::string digits = trimmed_number(text);
  const bool negative = !digits.empty() && digits[0] == '-';
  const std::size_t prefix = negative ? 1 : 0;
  if (base != 10 && digits.size() > prefix + 2 && digits[prefix] == '0') {
    const char mark = digits[prefix + 1];
    const bool matches = (base == 16 && (mark == 'x' || mark == 'X')) ||
                         (base == 8 && (mark == 'o' || mark == 'O')) ||
                         (base == 2 && (mark == 'b' || mark == 'B'));
    if (matches) digits.erase(prefix, 2);
  }
  std::int64_t whole = 0;
  const char* end = digits.data() + digits.size();
  const auto read = std::from_chars(digits.data(), end, whole, base);
  if (digits.empty() || read.ec != std::errc{} || read.ptr != end) return std::nullopt;
  return whole;
}

Result<Value> filter_int(Runtime& /*runtime*/, const Value& value, const Arguments& arguments) {
  PLEIAD_TRY(bound, bind(arguments, "filter 'int'", {"default", "base"}));
  PLEIAD_TRY(base, integer_or(bound[1], 10, "filter 'int'"));
  if (base < 2 || base > 36) return invalid_input("filter 'int' with base {}", base);
  if (value.is_undefined()) return undefined_error(value);
  const Value otherwise = bound[0] == nullptr ? Value(std::int64_t{0}) : *bound[0];
  std::optional<double> real;
  if (const TrackedText* text = value.text()) {
    if (const auto whole = parse_whole(text->bytes(), static_cast<int>(base))) {
      return Value(*whole, is_untrusted(value));
    }
    real = parse_real(text->bytes());
  } else if (const auto number = number_of(value)) {
    if (!number->is_float) return Value(number->whole, value.untrusted_scalar);
    real = number->real;
  }
  if (!real || std::isnan(*real)) return otherwise;
  if (std::fabs(*real) >= 9.2e18) {
    return invalid_input("filter 'int': the number does not fit 64 bits");
  }
  return Value(static_cast<std::int64_t>(*real), is_untrusted(value));
}

Result<Value> filter_float(Runtime& /*runtime*/, const Value& value, const Arguments& arguments) {
  PLEIAD_TRY(bound, bind(arguments, "filter 'float'", {"default"}));
  if (value.is_undefined()) return undefined_error(value);
  if (const auto number = number_of(value)) return Value(number->real, value.untrusted_scalar);
  const TrackedText* text = value.text();
  const auto real = text == nullptr ? std::nullopt : parse_real(text->bytes());
  if (real) return Value(*real, is_untrusted(value));
  return bound[0] == nullptr ? Value(0.0) : *bound[0];
}

Result<Value> filter_abs(Runtime& /*runtime*/, const Value& value, const Arguments& arguments) {
  PLEIAD_TRY(bind(arguments, "filter 'abs'", {}));
  const auto number = number_of(value);
  if (!number) {
    if (value.is_undefined()) return undefined_error(value);
    return invalid_input("filter 'abs' on {}", type_name(value));
  }
  if (number->is_float) return Value(std::fabs(number->real), value.untrusted_scalar);
  return number->whole < 0 ? negate(value)
                           : Result<Value>(Value(number->whole, value.untrusted_scalar));
}

Result<Value> filter_round(Runtime& /*runtime*/, const Value& value, const Arguments& arguments) {
  PLEIAD_TRY(bound, bind(arguments, "filter 'round'", {"precision", "method"}));
  PLEIAD_TRY(precision, integer_or(bound[0], 0, "filter 'round'"));
  const auto number = number_of(value);
  if (!number) return invalid_input("filter 'round' on {}", type_name(value));
  if (precision < 0 || precision > 20) {
    return invalid_input("filter 'round' to {} digits", precision);
  }
  const std::string method =
      bound[1] != nullptr && bound[1]->text() != nullptr ? bound[1]->text()->bytes() : "common";
  const double scale = std::pow(10.0, static_cast<double>(precision));
  if (method == "ceil") {
    return Value(std::ceil(number->real * scale) / scale, value.untrusted_scalar);
  }
  if (method == "floor") {
    return Value(std::floor(number->real * scale) / scale, value.untrusted_scalar);
  }
  if (method != "common") return invalid_input("filter 'round' with method '{}'", method);
  if (!number->is_float) return Value(number->whole, value.untrusted_scalar);
  if (!std::isfinite(number->real)) return value;
  // Printing rounds the exact value to even, as Python does; multiplying first would not.
  const auto rounded = parse_real(fmt::format("{:.{}f}", number->real, precision));
  return Value(rounded.value_or(number->real), value.untrusted_scalar);
}

Result<Value> filter_format(Runtime& runtime, const Value& value, const Arguments& arguments) {
  if (!arguments.keywords.empty()) return unsupported("filter 'format' with keywords");
  PLEIAD_TRY(text, to_text(runtime, value));
  return format_percent(runtime, text, arguments.positional);
}

Result<Value> filter_tojson(Runtime& runtime, const Value& value, const Arguments& arguments) {
  PLEIAD_TRY(
      bound,
      bind(arguments, "filter 'tojson'", {"ensure_ascii", "indent", "separators", "sort_keys"})
  );
  JsonStyle style;
  style.ascii_only = bound[0] != nullptr && is_true(*bound[0]);
  style.sort_keys = bound[3] != nullptr && is_true(*bound[3]);
  if (bound[1] != nullptr && bound[1]->text() != nullptr) {
    style.indent = bound[1]->text()->bytes();
  } else if (bound[1] != nullptr && !bound[1]->is_none()) {
    PLEIAD_TRY(width, integer_or(bound[1], 0, "filter 'tojson'"));
    if (width > 100) return invalid_input("filter 'tojson' with indent {}; at most 100", width);
    style.indent = std::string(static_cast<std::size_t>(std::max<std::int64_t>(width, 0)), ' ');
  }
  if (style.indent) style.item_separator = std::string(1, ',');
  if (bound[2] != nullptr && !bound[2]->is_none()) {
    const Sequence* pair = bound[2]->sequence();
    const bool valid = pair != nullptr && pair->items.size() == 2 &&
                       pair->items[0].text() != nullptr && pair->items[1].text() != nullptr;
    if (!valid) return invalid_input("filter 'tojson' wants two separators");
    style.item_separator = pair->items[0].text()->bytes();
    style.key_separator = pair->items[1].text()->bytes();
  }
  PLEIAD_TRY(json, to_json(runtime, value, style));
  return runtime.heap().text(std::move(json));
}

constexpr std::array<FilterEntry, 18> kFilters = {{
    {"upper", filter_upper},
    {"lower", filter_lower},
    {"capitalize", filter_capitalize},
    {"title", filter_title},
    {"trim", filter_trim},
    {"string", filter_string},
    {"safe", filter_string},  // nothing is ever escaped behind our back
    {"escape", filter_escape},
    {"e", filter_escape},
    {"forceescape", filter_escape},
    {"replace", filter_replace},
    {"indent", filter_indent},
    {"int", filter_int},
    {"float", filter_float},
    {"abs", filter_abs},
    {"round", filter_round},
    {"format", filter_format},
    {"tojson", filter_tojson},
}};

}  // namespace

const FilterEntry* find_text_filter(std::string_view name) {
  const auto* const found = std::find_if(
      kFilters.begin(), kFilters.end(), [&](const FilterEntry& entry) { return entry.name == name; }
  );
  return found == kFilters.end() ? nullptr : found;
}

const FilterEntry* find_filter(std::string_view name) {
  const FilterEntry* found = find_text_filter(name);
  return found != nullptr ? found : find_sequence_filter(name);
}

Result<Value> upper(Runtime& runtime, const TrackedText& text) {
  PLEIAD_TRY(runtime.spend_bytes(text.size()));
  TrackedText out;
  append_mapped(out, text, {0, text.size()}, append_upper);
  return runtime.heap().text(std::move(out));
}

Result<Value> lower(Runtime& runtime, const TrackedText& text) {
  PLEIAD_TRY(runtime.spend_bytes(text.size()));
  TrackedText out;
  append_mapped(out, text, {0, text.size()}, append_lower);
  return runtime.heap().text(std::move(out));
}

Result<Value> capitalize(Runtime& runtime, const TrackedText& text) {
  PLEIAD_TRY(runtime.spend_bytes(text.size()));
  TrackedText out;
  if (!text.empty()) {
    const std::size_t end = first_character_end(text.bytes(), 0);
    append_mapped(out, text, {0, end}, append_upper);
    append_mapped(out, text, {end, text.size()}, append_lower);
  }
  return runtime.heap().text(std::move(out));
}

Result<Value> replace(
    Runtime& runtime,
    const TrackedText& text,
    const TrackedText& from,
    const TrackedText& to,
    std::int64_t count_max
) {
  PLEIAD_TRY(runtime.spend_bytes(text.size()));
  const std::string_view all = text.bytes();
  TrackedText out;
  std::size_t done = 0;
  std::size_t search = 0;
  for (std::int64_t count = 0; count_max < 0 || count < count_max; ++count) {
    const std::size_t found = from.empty() ? search : all.find(from.bytes(), search);
    if (found == std::string_view::npos || found > all.size()) break;
    PLEIAD_TRY(runtime.spend_bytes(to.size()));
    if (out.size() > (std::size_t{64} << 20U)) return invalid_input("replacement grows too long");
    out.append(text, {done, found});
    out.append(to);
    done = found + from.size();
    // Empty text is found before every character and at the end.
    search = from.empty() ? (found < all.size() ? first_character_end(all, found) : all.size() + 1)
                          : done;
  }
  out.append(text, {done, all.size()});
  return runtime.heap().text(std::move(out));
}

Result<Value>
join(Runtime& runtime, const TrackedText& separator, const std::vector<Value>& items) {
  TrackedText out;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out.append(separator);
    PLEIAD_TRY(text, to_text(runtime, items[i]));
    out.append(text);
    PLEIAD_TRY(runtime.spend_bytes(separator.size() + text.size()));
    if (out.size() > (std::size_t{64} << 20U)) return invalid_input("joined text grows too long");
  }
  return runtime.heap().text(std::move(out));
}

}  // namespace pleiad::text::detail
