#include "text/detail/jinja_format.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>
#include <utf8proc.h>

#include "base/utf8.h"
#include "text/detail/jinja_operators.h"
#include "text/detail/python_text.h"

namespace pleiad::text::detail {
namespace {

bool is_printable(char32_t point) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(point))) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return false;
    case UTF8PROC_CATEGORY_ZS:
      return point == ' ';
    default:
      return true;
  }
}

void append_quoted(std::string_view text, std::string& out) {
  const bool has_single = text.find('\'') != std::string_view::npos;
  const bool has_double = text.find('"') != std::string_view::npos;
  const char quote = has_single && !has_double ? '"' : '\'';
  out += quote;
  while (!text.empty()) {
    const auto point = decode_utf8(text);
    if (!point) break;
    const char32_t c = point->value;
    if (c == static_cast<unsigned char>(quote) || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (is_printable(c)) {
      out.append(text.substr(0, point->bytes));
    } else if (c < 0x100) {
      out += fmt::format("\\x{:02x}", static_cast<unsigned>(c));
    } else if (c < 0x10000) {
      out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    } else {
      out += fmt::format("\\U{:08x}", static_cast<unsigned>(c));
    }
    text.remove_prefix(point->bytes);
  }
  out += quote;
}

std::optional<std::string> scalar_text(const Value& value) {
  if (value.is_undefined()) return "";
  if (value.is_none()) return "None";
  if (const auto* flag = value.get<bool>()) return *flag ? "True" : "False";
  if (const auto* whole = value.get<std::int64_t>()) return std::to_string(*whole);
  if (const auto* real = value.get<double>()) return python_float(*real);
  return std::nullopt;
}

Result<void> append_repr(Runtime& runtime, const Value& value, int depth, std::string& out);

Result<void>
append_items(Runtime& runtime, const std::vector<Value>& items, int depth, std::string& out) {
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out += ", ";
    PLEIAD_TRY(append_repr(runtime, items[i], depth + 1, out));
  }
  return {};
}

Result<void> append_dict(Runtime& runtime, const Dict& dict, int depth, std::string& out) {
  out += '{';
  for (std::size_t i = 0; i < dict.members.size(); ++i) {
    if (i > 0) out += ", ";
    PLEIAD_TRY(append_repr(runtime, dict.members[i].first, depth + 1, out));
    out += ": ";
    PLEIAD_TRY(append_repr(runtime, dict.members[i].second, depth + 1, out));
  }
  out += '}';
  return {};
}

Result<void>
append_sequence(Runtime& runtime, const Sequence& sequence, int depth, std::string& out) {
  const auto& items = sequence.items;
  switch (sequence.kind) {
    case SequenceKind::List:
      out += '[';
      PLEIAD_TRY(append_items(runtime, items, depth, out));
      out += ']';
      return {};
    case SequenceKind::Tuple:
      out += '(';
      PLEIAD_TRY(append_items(runtime, items, depth, out));
      out += items.size() == 1 ? ",)" : ")";
      return {};
    case SequenceKind::Range:
    case SequenceKind::View:
    case SequenceKind::Generator:
      // Python would print the address of an iterator: no template can mean that.
      return invalid_input("an iterator cannot be printed; use |list");
  }
  return {};
}

Result<void> append_repr(Runtime& runtime, const Value& value, int depth, std::string& out) {
  PLEIAD_TRY(runtime.spend(1));
  if (depth > 250) return invalid_input("a value nests too deep to be printed");
  if (value.is_undefined()) {
    out += "Undefined";
    return {};
  }
  if (const auto scalar = scalar_text(value)) {
    out += *scalar;
    return {};
  }
  if (const TrackedText* text = value.text()) {
    PLEIAD_TRY(runtime.spend_bytes(text->size()));
    append_quoted(text->bytes(), out);
    return {};
  }
  if (const Sequence* sequence = value.sequence()) {
    return append_sequence(runtime, *sequence, depth, out);
  }
  const Dict* dict = value.dict();
  if (dict == nullptr) return invalid_input("a {} cannot be printed", type_name(value));
  return append_dict(runtime, *dict, depth, out);
}

// One conversion of a % format: flags, width, precision and kind.
struct Conversion {
  bool left = false;
  bool zero = false;
  bool plus = false;
  bool blank = false;
  std::size_t width = 0;
  std::optional<int> precision;
  char kind = 's';
};

constexpr std::size_t kFormatWidthMax = 1000;

Result<Conversion> parse_conversion(std::string_view text, std::size_t& at) {
  Conversion conversion;
  for (; at < text.size(); ++at) {
    if (text[at] == '-') {
      conversion.left = true;
    } else if (text[at] == '0') {
      conversion.zero = true;
    } else if (text[at] == '+') {
      conversion.plus = true;
    } else if (text[at] == ' ') {
      conversion.blank = true;
    } else {
      break;
    }
  }
  const auto digits = [&] {
    std::size_t number = 0;
    for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at) {
      number = std::min(number * 10 + static_cast<std::size_t>(text[at] - '0'), kFormatWidthMax);
    }
    return number;
  };
  conversion.width = digits();
  if (at < text.size() && text[at] == '.') {
    ++at;
    conversion.precision = static_cast<int>(std::min<std::size_t>(digits(), 100));
  }
  if (at >= text.size()) return invalid_input("incomplete format");
  conversion.kind = text[at++];
  return conversion;
}

Result<std::string> format_number(const Conversion& conversion, const Value& value) {
  const auto number = number_of(value);
  if (!number) {
    return invalid_input(
        "%{} format: a number is required, not {}", conversion.kind, type_name(value)
    );
  }
  std::string digits;
  switch (conversion.kind) {
    case 'd':
    case 'i':
    case 'u': {
      const bool fits = !number->is_float || std::fabs(number->real) < 9e18;
      if (!fits) return invalid_input("%d format: the number does not fit 64 bits");
      digits = std::to_string(
          number->is_float ? static_cast<std::int64_t>(number->real) : number->whole
      );
      break;
    }
    case 'x':
      digits = fmt::format("{:x}", number->whole);
      break;
    case 'X':
      digits = fmt::format("{:X}", number->whole);
      break;
    case 'o':
      digits = fmt::format("{:o}", number->whole);
      break;
    case 'e':
      digits = fmt::format("{:.{}e}", number->real, conversion.precision.value_or(6));
      break;
    case 'g':
      digits = fmt::format("{:.{}g}", number->real, conversion.precision.value_or(6));
      break;
    default:
      digits = fmt::format("{:.{}f}", number->real, conversion.precision.value_or(6));
      break;
  }
  if (digits[0] != '-' && conversion.plus) digits.insert(0, "+");
  if (digits[0] != '-' && digits[0] != '+' && conversion.blank) digits.insert(0, " ");
  if (conversion.zero && !conversion.left && digits.size() < conversion.width) {
    const bool is_signed = digits[0] == '-' || digits[0] == '+' || digits[0] == ' ';
    digits.insert(is_signed ? 1 : 0, conversion.width - digits.size(), '0');
  }
  return digits;
}

Result<TrackedText> convert(Runtime& runtime, const Conversion& conversion, const Value& value) {
  constexpr std::string_view kNumeric = "diuxXoefgF";
  if (kNumeric.find(conversion.kind) != std::string_view::npos) {
    PLEIAD_TRY(digits, format_number(conversion, value));
    return TrackedText(digits, is_untrusted(value));
  }
  TrackedText text;
  if (conversion.kind == 's') {
    PLEIAD_TRY(printed, to_text(runtime, value));
    text = std::move(printed);
  } else if (conversion.kind == 'r') {
    PLEIAD_TRY(printed, to_repr(runtime, value));
    text = TrackedText(printed, is_untrusted(value));
  } else {
    return unsupported("format %{}", conversion.kind);
  }
  if (conversion.precision) {
    const auto starts = character_starts(text.bytes());
    const auto keep = std::min(static_cast<std::size_t>(*conversion.precision), starts.size() - 1);
    text = text.slice({0, starts[keep]});
  }
  return text;
}

}  // namespace

Result<std::string> to_repr(Runtime& runtime, const Value& value) {
  std::string out;
  PLEIAD_TRY(append_repr(runtime, value, 0, out));
  return out;
}

Result<TrackedText> to_text(Runtime& runtime, const Value& value) {
  if (const TrackedText* text = value.text()) {
    PLEIAD_TRY(runtime.spend_bytes(text->size()));
    return *text;
  }
  if (const auto scalar = scalar_text(value)) return TrackedText(*scalar, value.untrusted_scalar);
  PLEIAD_TRY(printed, to_repr(runtime, value));
  return TrackedText(printed, is_untrusted(value));
}

Result<Value>
format_percent(Runtime& runtime, const TrackedText& format, const std::vector<Value>& values) {
  const std::string_view text = format.bytes();
  TrackedText out;
  std::size_t done = 0;
  std::size_t used = 0;
  while (true) {
    const std::size_t mark = text.find('%', done);
    if (mark == std::string_view::npos) break;
    out.append(format, {done, mark});
    std::size_t at = mark + 1;
    PLEIAD_TRY(conversion, parse_conversion(text, at));
    done = at;
    if (conversion.kind == '%') {
      out.append("%", false);
      continue;
    }
    if (used >= values.size()) return invalid_input("not enough arguments for the format");
    PLEIAD_TRY(piece, convert(runtime, conversion, values[used++]));
    const std::size_t length = character_count(piece.bytes());
    const std::string padding(conversion.width > length ? conversion.width - length : 0, ' ');
    if (!conversion.left) out.append(padding, false);
    out.append(piece);
    if (conversion.left) out.append(padding, false);
    PLEIAD_TRY(runtime.spend_bytes(out.size()));
  }
  if (used < values.size()) return invalid_input("not all arguments were used by the format");
  out.append(format, {done, text.size()});
  return runtime.heap().text(std::move(out));
}

}  // namespace pleiad::text::detail
