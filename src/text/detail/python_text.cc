#include "text/detail/python_text.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include <utf8proc.h>

#include "base/check.h"
#include "base/utf8.h"

namespace pleiad::text::detail {
namespace {

CodePoint point_at(std::string_view text, std::size_t at) {
  const auto point = decode_utf8(text.substr(at));
  PLEIAD_CHECK(point.has_value(), "template text is well-formed UTF-8");
  return *point;
}

std::size_t start_before(std::string_view text, std::size_t end) {
  std::size_t begin = end - 1;
  while (begin > 0 && (static_cast<unsigned char>(text[begin]) & 0xC0U) == 0x80) {
    --begin;
  }
  return begin;
}

utf8proc_category_t category(char32_t point) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(point));
}

bool is_line_end(char32_t point) {
  return (point >= 0x0A && point <= 0x0D) || (point >= 0x1C && point <= 0x1E) || point == 0x85 ||
         point == 0x2028 || point == 0x2029;
}

// Blank-separated words, at most `splits_max` cuts.
std::vector<TextRange> split_blanks(std::string_view text, std::int64_t splits_max) {
  std::vector<TextRange> parts;
  std::size_t at = strip_range(text, std::nullopt, Sides::Left).begin;
  while (at < text.size()) {
    if (splits_max >= 0 && static_cast<std::int64_t>(parts.size()) >= splits_max) {
      parts.push_back({at, text.size()});
      break;
    }
    std::size_t end = at;
    while (end < text.size() && !is_python_space(point_at(text, end).value)) {
      end += point_at(text, end).bytes;
    }
    parts.push_back({at, end});
    at = end + strip_range(text.substr(end), std::nullopt, Sides::Left).begin;
  }
  return parts;
}

std::vector<TextRange> rsplit_blanks(std::string_view text, std::int64_t splits_max) {
  std::vector<TextRange> parts;
  std::size_t end = strip_range(text, std::nullopt, Sides::Right).end;
  while (end > 0) {
    if (splits_max >= 0 && static_cast<std::int64_t>(parts.size()) >= splits_max) {
      parts.push_back({0, end});
      break;
    }
    std::size_t begin = end;
    while (begin > 0 && !is_python_space(point_at(text, start_before(text, begin)).value)) {
      begin = start_before(text, begin);
    }
    parts.push_back({begin, end});
    end = strip_range(text.substr(0, begin), std::nullopt, Sides::Right).end;
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

}  // namespace

bool is_python_space(char32_t point) {
  if (point < 0x80) return (point >= 0x09 && point <= 0x0D) || (point >= 0x1C && point <= 0x20);
  if (point == 0x85) return true;
  const auto kind = category(point);
  return kind == UTF8PROC_CATEGORY_ZS || kind == UTF8PROC_CATEGORY_ZL ||
         kind == UTF8PROC_CATEGORY_ZP;
}

TextRange strip_range(std::string_view text, std::optional<std::string_view> chars, Sides sides) {
  const auto strips = [&](std::size_t at, std::size_t bytes) {
    if (!chars) return is_python_space(point_at(text, at).value);
    // In well-formed UTF-8 the bytes of a character are found only where it stands.
    return chars->find(text.substr(at, bytes)) != std::string_view::npos;
  };
  TextRange range{0, text.size()};
  while (sides != Sides::Right && range.begin < range.end) {
    const std::size_t bytes = point_at(text, range.begin).bytes;
    if (!strips(range.begin, bytes)) break;
    range.begin += bytes;
  }
  while (sides != Sides::Left && range.begin < range.end) {
    const std::size_t start = start_before(text, range.end);
    if (!strips(start, range.end - start)) break;
    range.end = start;
  }
  return range;
}

std::vector<TextRange> split_ranges(
    std::string_view text,
    std::optional<std::string_view> separator,
    std::int64_t splits_max
) {
  if (!separator) return split_blanks(text, splits_max);
  std::vector<TextRange> parts;
  std::size_t at = 0;
  while (splits_max < 0 || static_cast<std::int64_t>(parts.size()) < splits_max) {
    const std::size_t found = text.find(*separator, at);
    if (found == std::string_view::npos) break;
    parts.push_back({at, found});
    at = found + separator->size();
  }
  parts.push_back({at, text.size()});
  return parts;
}

std::vector<TextRange> rsplit_ranges(
    std::string_view text,
    std::optional<std::string_view> separator,
    std::int64_t splits_max
) {
  if (!separator) return rsplit_blanks(text, splits_max);
  std::vector<TextRange> parts;
  std::size_t end = text.size();
  while (splits_max < 0 || static_cast<std::int64_t>(parts.size()) < splits_max) {
    if (end < separator->size()) break;
    const std::size_t found = text.rfind(*separator, end - separator->size());
    if (found == std::string_view::npos) break;
    parts.push_back({found + separator->size(), end});
    end = found;
  }
  parts.push_back({0, end});
  std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<TextRange> line_ranges(std::string_view text, bool keep_ends) {
  std::vector<TextRange> lines;
  std::size_t begin = 0;
  std::size_t at = 0;
  while (at < text.size()) {
    const CodePoint point = point_at(text, at);
    std::size_t next = at + point.bytes;
    if (is_line_end(point.value)) {
      if (point.value == '\r' && next < text.size() && text[next] == '\n') ++next;
      lines.push_back({begin, keep_ends ? next : at});
      begin = next;
    }
    at = next;
  }
  if (begin < text.size()) lines.push_back({begin, text.size()});
  return lines;
}

std::vector<std::size_t> character_starts(std::string_view text) {
  std::vector<std::size_t> starts;
  starts.reserve(text.size() + 1);
  for (std::size_t i = 0; i < text.size(); ++i) {
    if ((static_cast<unsigned char>(text[i]) & 0xC0U) != 0x80) starts.push_back(i);
  }
  starts.push_back(text.size());
  return starts;
}

std::size_t character_count(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char byte) {
    return (static_cast<unsigned char>(byte) & 0xC0U) != 0x80;
  }));
}

void append_upper(char32_t point, std::string& out) {
  // The letters whose upper case is longer than one character and which occur in running text.
  switch (point) {
    case 0xDF:
      out += "SS";
      return;
    case 0x149:
      out += "\xCA\xBCN";
      return;
    case 0xFB00:
      out += "FF";
      return;
    case 0xFB01:
      out += "FI";
      return;
    case 0xFB02:
      out += "FL";
      return;
    case 0xFB03:
      out += "FFI";
      return;
    case 0xFB04:
      out += "FFL";
      return;
    case 0xFB05:
    case 0xFB06:
      out += "ST";
      return;
    default:
      append_utf8(
          static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(point))), out
      );
  }
}

void append_lower(char32_t point, std::string& out) {
  if (point == 0x130) {
    out += "i\xCC\x87";
    return;
  }
  append_utf8(static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(point))), out);
}

bool is_cased(char32_t point) {
  return is_upper(point) || is_lower(point) || category(point) == UTF8PROC_CATEGORY_LT;
}

bool is_alphabetic(char32_t point) {
  const auto kind = category(point);
  return kind == UTF8PROC_CATEGORY_LU || kind == UTF8PROC_CATEGORY_LL ||
         kind == UTF8PROC_CATEGORY_LT || kind == UTF8PROC_CATEGORY_LM ||
         kind == UTF8PROC_CATEGORY_LO;
}

bool is_numeric(char32_t point) {
  const auto kind = category(point);
  return kind == UTF8PROC_CATEGORY_ND || kind == UTF8PROC_CATEGORY_NL ||
         kind == UTF8PROC_CATEGORY_NO;
}

bool is_decimal(char32_t point) {
  return category(point) == UTF8PROC_CATEGORY_ND;
}
bool is_upper(char32_t point) {
  return category(point) == UTF8PROC_CATEGORY_LU;
}
bool is_lower(char32_t point) {
  return category(point) == UTF8PROC_CATEGORY_LL;
}

std::string python_float(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  std::array<char, 64> buffer{};
  const auto written = std::to_chars(
      buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::scientific
  );
  const std::string_view shortest(
      buffer.data(), static_cast<std::size_t>(written.ptr - buffer.data())
  );
  const std::size_t mark = shortest.find('e');
  int exponent = 0;
  const std::size_t plus = shortest[mark + 1] == '+' ? 1 : 0;
  std::from_chars(shortest.data() + mark + 1 + plus, written.ptr, exponent);
  // Python writes plain digits for exponents from -4 to 15.
  if (exponent < -4 || exponent >= 16) return std::string(shortest);
  const auto fixed =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::fixed);
  std::string text(buffer.data(), static_cast<std::size_t>(fixed.ptr - buffer.data()));
  if (text.find('.') == std::string::npos) text += ".0";
  return text;
}

}  // namespace pleiad::text::detail
