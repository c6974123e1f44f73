// The methods of Python's str.
#include <algorithm>
#include <array>

#include "base/utf8.h"
#include "text/detail/jinja_attributes.h"
#include "text/detail/jinja_filters.h"
#include "text/detail/jinja_format.h"
#include "text/detail/jinja_operators.h"
#include "text/detail/python_text.h"

namespace pleiad::text::detail {
namespace {

// One call of a method: the text, the method's name, its arguments.
struct Call {
  Runtime& runtime;
  const TrackedText& text;
  std::string_view name;
  const Arguments& arguments;
};

Result<std::string_view> string_argument(const Value* argument, std::string_view name) {
  const TrackedText* text = argument == nullptr ? nullptr : argument->text();
  if (text == nullptr) {
    return invalid_input(
        "str.{} wants a string, not {}",
        name,
        argument == nullptr ? "nothing" : type_name(*argument)
    );
  }
  return std::string_view(text->bytes());
}

Result<std::optional<std::string_view>>
optional_string(const Value* argument, std::string_view name) {
  if (argument == nullptr || argument->is_none()) return std::optional<std::string_view>();
  PLEIAD_TRY(text, string_argument(argument, name));
  return std::optional(text);
}

Result<Value> strip(const Call& call) {
  PLEIAD_TRY(bound, bind(call.arguments, "str.strip", {"chars"}));
  PLEIAD_TRY(chars, optional_string(bound[0], call.name));
  const Sides sides = call.name == "lstrip"   ? Sides::Left
                      : call.name == "rstrip" ? Sides::Right
                                              : Sides::Both;
  return call.runtime.heap().text(call.text.slice(strip_range(call.text.bytes(), chars, sides)));
}

Result<Value> pieces(const Call& call, const std::vector<TextRange>& ranges) {
  PLEIAD_TRY(call.runtime.spend(ranges.size()));
  std::vector<Value> items;
  items.reserve(ranges.size());
  for (const TextRange& range : ranges) {
    PLEIAD_TRY(piece, call.runtime.heap().text(call.text.slice(range)));
    items.push_back(piece);
  }
  return call.runtime.heap().list(std::move(items));
}

Result<Value> split(const Call& call) {
  PLEIAD_TRY(bound, bind(call.arguments, "str.split", {"sep", "maxsplit"}));
  PLEIAD_TRY(separator, optional_string(bound[0], call.name));
  PLEIAD_TRY(splits_max, integer_or(bound[1], -1, "str.split"));
  if (separator && separator->empty()) return invalid_input("str.{}: empty separator", call.name);
  const auto cut = call.name == "split" ? split_ranges : rsplit_ranges;
  return pieces(call, cut(call.text.bytes(), separator, splits_max));
}

Result<Value> splitlines(const Call& call) {
  PLEIAD_TRY(bound, bind(call.arguments, "str.splitlines", {"keepends"}));
  return pieces(call, line_ranges(call.text.bytes(), bound[0] != nullptr && is_true(*bound[0])));
}

Result<Value> partition(const Call& call) {
  PLEIAD_TRY(bound, bind(call.arguments, "str.partition", {"sep"}, 1));
  PLEIAD_TRY(separator, string_argument(bound[0], call.name));
  if (separator.empty()) return invalid_input("str.{}: empty separator", call.name);
  const bool from_right = call.name == "rpartition";
  const std::string_view all = call.text.bytes();
  const std::size_t found = from_right ? all.rfind(separator) : all.find(separator);
  TextRange head{0, all.size()};
  TextRange middle{all.size(), all.size()};
  TextRange tail = middle;
  if (found != std::string_view::npos) {
    head.end = found;
    middle = {found, found + separator.size()};
    tail = {middle.end, all.size()};
  } else if (from_right) {
    std::swap(head, tail);
    head = middle = {0, 0};
    tail = {0, all.size()};
  }
  PLEIAD_TRY(parts, pieces(call, {head, middle, tail}));
  return call.runtime.heap().sequence(SequenceKind::Tuple, parts.sequence()->items);
}

Result<Value> starts_or_ends(const Call& call) {
  PLEIAD_TRY(bound, bind(call.arguments, "str.startswith", {"prefix"}, 1));
  const bool at_start = call.name == "startswith";
  const std::string_view all = call.text.bytes();
  std::vector<Value> candidates{*bound[0]};
  const Sequence* many = bound[0]->sequence();
  if (many != nullptr && many->kind == SequenceKind::Tuple) candidates = many->items;
  for (const Value& candidate : candidates) {
    PLEIAD_TRY(affix, string_argument(&candidate, call.name));
    PLEIAD_TRY(call.runtime.spend_bytes(affix.size()));
    if (at_start ? all.starts_with(affix) : all.ends_with(affix)) return Value(true);
  }
  return Value(false);
}

Result<Value> replace_method(const Call& call) {
  PLEIAD_TRY(bound, bind(call.arguments, "str.replace", {"old", "new", "count"}, 2));
  PLEIAD_TRY(string_argument(bound[0], call.name));
  PLEIAD_TRY(string_argument(bound[1], call.name));
  PLEIAD_TRY(count, integer_or(bound[2], -1, "str.replace"));
  return replace(call.runtime, call.text, *bound[0]->text(), *bound[1]->text(), count);
}

// The byte range of text[begin:end], which find() and its kin take.
Result<TextRange> window(const Call& call, const Value* begin, const Value* end) {
  const std::string& bytes = call.text.bytes();
  if (begin == nullptr && end == nullptr) return TextRange{0, bytes.size()};
  const auto starts = character_starts(bytes);
  const auto size = static_cast<std::int64_t>(starts.size()) - 1;
  const auto clamp = [size](std::int64_t at) {
    return static_cast<std::size_t>(std::clamp<std::int64_t>(at < 0 ? at + size : at, 0, size));
  };
  PLEIAD_TRY(from, integer_or(begin, 0, "str.find"));
  PLEIAD_TRY(to, integer_or(end, size, "str.find"));
  const std::size_t first = starts[clamp(from)];
  return TextRange{first, std::max(first, starts[clamp(to)])};
}

Result<Value> find_method(const Call& call) {
  PLEIAD_TRY(bound, bind(call.arguments, "str.find", {"sub", "start", "end"}, 1));
  PLEIAD_TRY(part, string_argument(bound[0], call.name));
  PLEIAD_TRY(range, window(call, bound[1], bound[2]));
  PLEIAD_TRY(call.runtime.spend_bytes(call.text.size()));
  const std::string_view all = call.text.bytes();
  const std::string_view inside = all.substr(range.begin, range.end - range.begin);
  if (call.name == "count") {
    if (part.empty()) return Value(static_cast<std::int64_t>(character_count(inside)) + 1);
    std::int64_t count = 0;
    for (std::size_t at = inside.find(part); at != std::string_view::npos;
         at = inside.find(part, at + part.size())) {
      ++count;
    }
    return Value(count);
  }
  const bool from_right = call.name == "rfind" || call.name == "rindex";
  const std::size_t found = from_right ? inside.rfind(part) : inside.find(part);
  if (found == std::string_view::npos) {
    if (call.name == "index" || call.name == "rindex") return invalid_input("substring not found");
    return Value(std::int64_t{-1});
  }
  return Value(static_cast<std::int64_t>(character_count(all.substr(0, range.begin + found))));
}

Result<Value> remove_affix(const Call& call) {
  PLEIAD_TRY(bound, bind(call.arguments, "str.removeprefix", {"prefix"}, 1));
  PLEIAD_TRY(affix, string_argument(bound[0], call.name));
  const std::string_view all = call.text.bytes();
  TextRange range{0, all.size()};
  if (call.name == "removeprefix" && all.starts_with(affix)) range.begin = affix.size();
  if (call.name == "removesuffix" && all.ends_with(affix)) range.end -= affix.size();
  return call.runtime.heap().text(call.text.slice(range));
}

Result<Value> join_method(const Call& call) {
  PLEIAD_TRY(bound, bind(call.arguments, "str.join", {"iterable"}, 1));
  PLEIAD_TRY(items, iterate(call.runtime, *bound[0]));
  for (const Value& held : items) {
    PLEIAD_TRY(string_argument(&held, call.name));
  }
  return join(call.runtime, call.text, items);
}

Result<Value> change_case(const Call& call) {
  PLEIAD_TRY(bind(call.arguments, "a case method of str", {}));
  if (call.name == "upper") return upper(call.runtime, call.text);
  if (call.name == "capitalize") return capitalize(call.runtime, call.text);
  if (call.name != "title") return lower(call.runtime, call.text);
  // Every run of letters starts with a capital.
  PLEIAD_TRY(call.runtime.spend(call.text.size()));
  const auto starts = character_starts(call.text.bytes());
  TrackedText out;
  bool inside = false;
  for (std::size_t i = 0; i + 1 < starts.size(); ++i) {
    const TrackedText one = call.text.slice({starts[i], starts[i + 1]});
    const auto point = decode_utf8(one.bytes());
    std::string mapped;
    if (point) (inside ? append_lower : append_upper)(point->value, mapped);
    out.append(mapped, one.any_untrusted());
    inside = point && is_cased(point->value);
  }
  return call.runtime.heap().text(std::move(out));
}

bool passes(std::string_view test, char32_t c) {
  if (test == "isdigit" || test == "isdecimal") return is_decimal(c);
  if (test == "isnumeric") return is_numeric(c);
  if (test == "isalpha") return is_alphabetic(c);
  if (test == "isalnum") return is_alphabetic(c) || is_numeric(c);
  if (test == "isspace") return is_python_space(c);
  return test == "isupper" ? !is_lower(c) : !is_upper(c);
}

Result<Value> character_test(const Call& call) {
  PLEIAD_TRY(bind(call.arguments, "a test method of str", {}));
  PLEIAD_TRY(call.runtime.spend_bytes(call.text.size()));
  std::string_view rest = call.text.bytes();
  bool all = !rest.empty();
  bool cased = false;
  while (all && !rest.empty()) {
    const auto point = decode_utf8(rest);
    PLEIAD_CHECK(point.has_value(), "template text is well-formed UTF-8");
    all = passes(call.name, point->value);
    cased = cased || is_cased(point->value);
    rest.remove_prefix(point->bytes);
  }
  const bool needs_case = call.name == "isupper" || call.name == "islower";
  return Value(all && (cased || !needs_case));
}

Result<Value> pad(const Call& call) {
  PLEIAD_TRY(bound, bind(call.arguments, "a padding method of str", {"width", "fillchar"}, 1));
  PLEIAD_TRY(width, integer_or(bound[0], 0, "str padding"));
  const TrackedText blank(call.name == "zfill" ? "0" : " ");
  const TrackedText& fill =
      bound[1] != nullptr && bound[1]->text() != nullptr ? *bound[1]->text() : blank;
  const auto size = static_cast<std::int64_t>(character_count(call.text.bytes()));
  const std::int64_t missing = std::max<std::int64_t>(0, width - size);
  if (missing > 100'000) return invalid_input("str.{} to a width of {}", call.name, width);
  PLEIAD_TRY(call.runtime.spend(static_cast<std::size_t>(missing)));
  std::int64_t left = 0;
  if (call.name == "rjust" || call.name == "zfill") left = missing;
  if (call.name == "center") left = missing / 2 + (missing & width & 1);
  TrackedText out;
  std::size_t sign = 0;
  const bool is_signed = call.text.bytes().starts_with('-') || call.text.bytes().starts_with('+');
  if (call.name == "zfill" && is_signed) sign = 1;
  out.append(call.text, {0, sign});
  for (std::int64_t i = 0; i < left; ++i) {
    out.append(fill);
  }
  out.append(call.text, {sign, call.text.size()});
  for (std::int64_t i = left; i < missing; ++i) {
    out.append(fill);
  }
  return call.runtime.heap().text(std::move(out));
}

// The argument that the field between braces of str.format() names; unnumbered fields take the
// next.
Result<const Value*> format_argument(const Call& call, std::string_view field, std::size_t& next) {
  if (field.find_first_of(".[!:") != std::string_view::npos) {
    return unsupported("str.format field '{}'", field);
  }
  const auto& positional = call.arguments.positional;
  if (field.find_first_not_of("0123456789") == std::string_view::npos) {
    const bool too_long = field.size() > 4;
    std::size_t index = 0;
    for (const char digit : field) {
      index = index * 10 + static_cast<std::size_t>(digit - '0');
    }
    if (field.empty()) index = next++;
    if (!too_long && index < positional.size()) return &positional[index];
  }
  for (const auto& [keyword, held] : call.arguments.keywords) {
    if (keyword == field) return &held;
  }
  return invalid_input("str.format: no argument for '{{{}}}'", field);
}

// {}, {0} and {name}, without conversions or format specifications; doubled braces are braces.
Result<Value> format_method(const Call& call) {
  const std::string_view all = call.text.bytes();
  TrackedText out;
  std::size_t next = 0;
  std::size_t at = 0;
  while (at < all.size()) {
    const std::size_t brace = std::min(all.find_first_of("{}", at), all.size());
    out.append(call.text, {at, brace});
    at = brace;
    if (at >= all.size()) break;
    if (all.substr(at + 1, 1) == all.substr(at, 1)) {
      out.append(call.text, {at, at + 1});
      at += 2;
      continue;
    }
    const std::size_t close = all[at] == '{' ? all.find('}', at) : std::string_view::npos;
    if (close == std::string_view::npos) return invalid_input("str.format: single '{}'", all[at]);
    PLEIAD_TRY(value, format_argument(call, all.substr(at + 1, close - at - 1), next));
    PLEIAD_TRY(printed, to_text(call.runtime, *value));
    out.append(printed);
    PLEIAD_TRY(call.runtime.spend_bytes(printed.size()));
    at = close + 1;
  }
  return call.runtime.heap().text(std::move(out));
}

struct Method {
  std::string_view name;
  Result<Value> (*call)(const Call&) = nullptr;
};

constexpr Method kMethods[] = {
    {"strip", strip},
    {"lstrip", strip},
    {"rstrip", strip},
    {"split", split},
    {"rsplit", split},
    {"splitlines", splitlines},
    {"partition", partition},
    {"rpartition", partition},
    {"startswith", starts_or_ends},
    {"endswith", starts_or_ends},
    {"replace", replace_method},
    {"find", find_method},
    {"rfind", find_method},
    {"index", find_method},
    {"rindex", find_method},
    {"count", find_method},
    {"removeprefix", remove_affix},
    {"removesuffix", remove_affix},
    {"join", join_method},
    {"upper", change_case},
    {"lower", change_case},
    {"casefold", change_case},
    {"title", change_case},
    {"capitalize", change_case},
    {"isdigit", character_test},
    {"isdecimal", character_test},
    {"isnumeric", character_test},
    {"isalpha", character_test},
    {"isalnum", character_test},
    {"isspace", character_test},
    {"isupper", character_test},
    {"islower", character_test},
    {"ljust", pad},
    {"rjust", pad},
    {"center", pad},
    {"zfill", pad},
    {"format", format_method},
};

const Method* find_text_method(std::string_view name) {
  const auto* const found =
      std::find_if(std::begin(kMethods), std::end(kMethods), [&](const Method& method) {
        return method.name == name;
      });
  return found == std::end(kMethods) ? nullptr : found;
}

}  // namespace

bool has_text_method(std::string_view name) {
  return find_text_method(name) != nullptr;
}

Result<Value> call_text_method(
    Runtime& runtime,
    const TrackedText& text,
    std::string_view name,
    const Arguments& arguments
) {
  const Method* method = find_text_method(name);
  PLEIAD_CHECK(method != nullptr);
  PLEIAD_TRY(runtime.spend_bytes(text.size()));
  return method->call({runtime, text, name, arguments});
}

}  // namespace pleiad::text::detail
