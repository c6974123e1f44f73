#include "text/detail/jinja_lexer.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <optional>

#include "base/utf8.h"
#include "text/detail/python_text.h"

namespace pleiad::text::detail {
namespace {

// Longest first, so that the first that fits is the one.
constexpr std::array<std::string_view, 26> kOperators = {
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
    "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"};

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

bool is_name_start(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || byte >= 0x80;
}

bool is_name_part(char c) {
  return is_name_start(c) || is_digit(c);
}

// Python's universal newlines, and the source's last newline dropped.
std::string normalize_newlines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out += source[i];
      continue;
    }
    out += '\n';
    if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

int value_of_hex(char c) {
  if (is_digit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

class Lexer {
 public:
  explicit Lexer(std::string source) : source_(std::move(source)) {}

  Result<std::vector<Token>> run() {
    while (at_ < source_.size()) {
      PLEIAD_TRY(take_data());
    }
    push(TokenKind::End, {});
    return std::move(tokens_);
  }

 private:
  [[nodiscard]] std::string_view rest() const { return std::string_view(source_).substr(at_); }
  [[nodiscard]] bool at(std::string_view text) const { return rest().starts_with(text); }

  void push(TokenKind kind, std::string text) { tokens_.push_back({kind, line_, std::move(text)}); }

  // Moves on and keeps count of lines.
  void advance(std::size_t bytes) {
    line_ += static_cast<int>(std::count(
        source_.begin() + static_cast<std::ptrdiff_t>(at_),
        source_.begin() + static_cast<std::ptrdiff_t>(at_ + bytes),
        '\n'
    ));
    at_ += bytes;
    line_starting_ = at_ > 0 && source_[at_ - 1] == '\n';
  }

  [[nodiscard]] Error fail(std::string_view what) const {
    return invalid_input("template line {}: {}", line_, what);
  }

  // Text up to the next tag, and the tag.
  Result<void> take_data() {
    const std::size_t begin = at_;
    std::size_t open = begin;
    while (true) {
      open = source_.find('{', open);
      if (open == std::string::npos || open + 1 >= source_.size()) {
        emit_data(std::string_view(source_).substr(begin));
        advance(source_.size() - at_);
        return {};
      }
      const char kind = source_[open + 1];
      if (kind == '{' || kind == '%' || kind == '#') break;
      ++open;
    }
    const char kind = source_[open + 1];
    std::string_view data = std::string_view(source_).substr(begin, open - begin);
    const char sign = open + 2 < source_.size() ? source_[open + 2] : '\0';
    if (sign == '-') {
      data = data.substr(0, strip_range(data, std::nullopt, Sides::Right).end);
    } else if (sign != '+' && kind != '{') {
      data = without_indentation(data);
    }
    emit_data(data);
    advance(open - begin);
    advance(2 + (sign == '-' || sign == '+' ? 1 : 0));
    if (kind == '#') return skip_comment();
    if (kind == '%' && is_raw()) return take_raw();
    push(kind == '{' ? TokenKind::VariableBegin : TokenKind::BlockBegin, {});
    return take_tag(kind == '{' ? "}}" : "%}");
  }

  void emit_data(std::string_view data) {
    if (!data.empty()) push(TokenKind::Data, std::string(data));
  }

  // lstrip_blocks: blanks between the start of the line and the tag go.
  [[nodiscard]] std::string_view without_indentation(std::string_view data) const {
    const std::size_t newline = data.rfind('\n');
    const std::size_t line_begin = newline == std::string_view::npos ? 0 : newline + 1;
    if (line_begin == 0 && !line_starting_) return data;
    const std::string_view indentation = data.substr(line_begin);
    const TextRange left = strip_range(indentation, std::nullopt, Sides::Left);
    return left.begin == indentation.size() ? data.substr(0, line_begin) : data;
  }

  // Behind a tag: "-" takes all blanks, "+" nothing, else one newline goes after blocks and
  // comments.
  void skip_after(char sign, bool trims_newline) {
    if (sign == '-') {
      advance(strip_range(rest(), std::nullopt, Sides::Left).begin);
    } else if (sign != '+' && trims_newline && at("\n")) {
      advance(1);
    }
  }

  Result<void> skip_comment() {
    const std::size_t end = source_.find("#}", at_);
    if (end == std::string::npos) return fail("comment without end");
    const char sign = end > at_ ? source_[end - 1] : '\0';
    advance(end + 2 - at_);
    skip_after(sign, true);
    return {};
  }

  [[nodiscard]] bool is_raw() const {
    const std::string_view tag = rest();
    const std::size_t name = strip_range(tag, std::nullopt, Sides::Left).begin;
    if (!tag.substr(name).starts_with("raw")) return false;
    const std::string_view after = tag.substr(name + 3);
    const std::string_view end = after.substr(strip_range(after, std::nullopt, Sides::Left).begin);
    return end.starts_with("%}") || end.starts_with("-%}");
  }

  Result<void> take_raw() {
    const std::size_t open_end = source_.find("%}", at_);
    const char open_sign = source_[open_end - 1];
    advance(open_end + 2 - at_);
    // Unlike other blocks, raw keeps the newline behind it.
    skip_after(open_sign, false);
    std::size_t end = at_;
    while (true) {
      end = source_.find("{%", end);
      if (end == std::string::npos) return fail("raw block without endraw");
      std::size_t name = end + 2;
      if (name < source_.size() && (source_[name] == '-' || source_[name] == '+')) ++name;
      const std::string_view tag = std::string_view(source_).substr(name);
      const std::size_t blanks = strip_range(tag, std::nullopt, Sides::Left).begin;
      if (tag.substr(blanks).starts_with("endraw")) break;
      end += 2;
    }
    std::string_view data = std::string_view(source_).substr(at_, end - at_);
    const char sign = source_[end + 2];
    if (sign == '-') {
      data = data.substr(0, strip_range(data, std::nullopt, Sides::Right).end);
    } else if (sign != '+') {
      data = without_indentation(data);
    }
    emit_data(data);
    const std::size_t close = source_.find("%}", end);
    if (close == std::string::npos) return fail("raw block without endraw");
    const char close_sign = source_[close - 1];
    advance(close + 2 - at_);
    skip_after(close_sign, true);
    return {};
  }

  // The tokens of a tag up to its end mark.
  Result<void> take_tag(std::string_view end_mark) {
    std::string open;  // brackets that wait for their partner
    const bool is_block = end_mark == "%}";
    while (at_ < source_.size()) {
      advance(strip_range(rest(), std::nullopt, Sides::Left).begin);
      const bool signed_end = (at("-") || (is_block && at("+"))) && rest().substr(1, 2) == end_mark;
      if (open.empty() && (at(end_mark) || signed_end)) {
        const char sign = signed_end ? source_[at_] : '\0';
        push(is_block ? TokenKind::BlockEnd : TokenKind::VariableEnd, {});
        advance(signed_end ? 3 : 2);
        skip_after(sign, is_block);
        return {};
      }
      if (at_ >= source_.size()) break;
      PLEIAD_TRY(take_token(open));
    }
    return fail("tag without end");
  }

  Result<void> take_token(std::string& open) {
    const char c = source_[at_];
    if (is_digit(c)) return take_number();
    if (is_name_start(c)) {
      std::size_t end = at_;
      while (end < source_.size() && is_name_part(source_[end])) {
        ++end;
      }
      push(TokenKind::Name, source_.substr(at_, end - at_));
      advance(end - at_);
      return {};
    }
    if (c == '"' || c == '\'') return take_string();
    for (const std::string_view symbol : kOperators) {
      if (!at(symbol)) continue;
      PLEIAD_TRY(balance(symbol[0], open));
      push(TokenKind::Operator, std::string(symbol));
      advance(symbol.size());
      return {};
    }
    return fail(std::string("unexpected character '") + c + "'");
  }

  Result<void> balance(char symbol, std::string& open) {
    constexpr std::string_view kOpening = "([{";
    constexpr std::string_view kClosing = ")]}";
    if (kOpening.find(symbol) != std::string_view::npos) open += symbol;
    const std::size_t closing = kClosing.find(symbol);
    if (closing == std::string_view::npos) return {};
    if (open.empty() || open.back() != kOpening[closing]) {
      return fail(std::string("unexpected '") + symbol + "'");
    }
    open.pop_back();
    return {};
  }

  // Digits with single underscores between them.
  std::size_t digits_end(std::size_t from) const {
    std::size_t end = from;
    while (end < source_.size() &&
           (is_digit(source_[end]) || (source_[end] == '_' && end > from &&
                                       end + 1 < source_.size() && is_digit(source_[end + 1])))) {
      ++end;
    }
    return end;
  }

  Result<void> take_number() {
    std::size_t end = digits_end(at_);
    bool is_float = false;
    if (end + 1 < source_.size() && source_[end] == '.' && is_digit(source_[end + 1])) {
      is_float = true;
      end = digits_end(end + 1);
    }
    if (end < source_.size() && (source_[end] == 'e' || source_[end] == 'E')) {
      std::size_t digits = end + 1;
      if (digits < source_.size() && (source_[digits] == '+' || source_[digits] == '-')) ++digits;
      if (digits < source_.size() && is_digit(source_[digits])) {
        is_float = true;
        end = digits_end(digits);
      }
    }
    if (end < source_.size() && is_name_start(source_[end])) {
      return fail("malformed number (only decimal numbers are supported)");
    }
    std::string text = source_.substr(at_, end - at_);
    std::erase(text, '_');
    push(is_float ? TokenKind::Float : TokenKind::Integer, std::move(text));
    advance(end - at_);
    return {};
  }

  Result<void> take_string() {
    const char quote = source_[at_];
    std::string text;
    std::size_t i = at_ + 1;
    while (i < source_.size() && source_[i] != quote) {
      if (source_[i] != '\\') {
        text += source_[i++];
        continue;
      }
      PLEIAD_TRY(next, take_escape(i, text));
      i = next;
    }
    if (i >= source_.size()) return fail("string without end");
    push(TokenKind::String, std::move(text));
    advance(i + 1 - at_);
    return {};
  }

  // Resolves the escape at byte `i` as Python's unicode-escape does; gives the byte behind it.
  Result<std::size_t> take_escape(std::size_t i, std::string& text) const {
    constexpr std::string_view kLetters = "\\'\"abfnrtv";
    constexpr std::string_view kMeanings = "\\'\"\a\b\f\n\r\t\v";
    if (i + 1 >= source_.size()) return fail("string without end");
    const char kind = source_[i + 1];
    if (kind == '\n') return i + 2;
    const std::size_t letter = kLetters.find(kind);
    if (letter != std::string_view::npos) {
      text += kMeanings[letter];
      return i + 2;
    }
    if (kind >= '0' && kind <= '7') {
      char32_t value = 0;
      std::size_t end = i + 1;
      for (; end < i + 4 && end < source_.size() && source_[end] >= '0' && source_[end] <= '7';
           ++end) {
        value = value * 8 + static_cast<char32_t>(source_[end] - '0');
      }
      append_utf8(value, text);
      return end;
    }
    const std::size_t digits = kind == 'x' ? 2 : kind == 'u' ? 4 : kind == 'U' ? 8 : 0;
    if (digits == 0 && kind != 'N') {
      text += '\\';
      return i + 1;
    }
    char32_t value = 0;
    for (std::size_t d = 0; d < digits; ++d) {
      const std::size_t at = i + 2 + d;
      const int hex = at < source_.size() ? value_of_hex(source_[at]) : -1;
      if (hex < 0) return fail("malformed escape in a string");
      value = value * 16 + static_cast<char32_t>(hex);
    }
    const bool scalar = value <= 0x10FFFF && (value < 0xD800 || value > 0xDFFF);
    if (digits == 0 || !scalar) return fail("escape in a string that is not supported");
    append_utf8(value, text);
    return i + 2 + digits;
  }

  std::string source_;
  std::size_t at_ = 0;
  int line_ = 1;
  bool line_starting_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

Result<std::vector<Token>> lex_template(std::string_view source) {
  if (!is_valid_utf8(source)) return invalid_input("template is not well-formed UTF-8");
  return Lexer(normalize_newlines(source)).run();
}

}  // namespace pleiad::text::detail
