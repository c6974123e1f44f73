#include "text/detail/normalizer.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include <utf8proc.h>

#include "base/check.h"
#include "base/utf8.h"

namespace pleiad::text::detail {
namespace {

constexpr int kSequenceDepthMax = 8;
// The longest canonical decomposition of one character is 4.
constexpr std::size_t kDecompositionMax = 16;

bool is_ascii(char byte) {
  return static_cast<unsigned char>(byte) < 0x80;
}

int combining_class(utf8proc_int32_t point) {
  return utf8proc_get_property(point)->combining_class;
}

// Marks of one run in canonical order; equal classes keep their order.
void order_marks(std::vector<utf8proc_int32_t>& points) {
  const auto is_mark = [](utf8proc_int32_t point) { return combining_class(point) != 0; };
  auto begin = points.begin();
  while (begin != points.end()) {
    begin = std::find_if(begin, points.end(), is_mark);
    const auto end = std::find_if_not(begin, points.end(), is_mark);
    std::stable_sort(begin, end, [](utf8proc_int32_t a, utf8proc_int32_t b) {
      return combining_class(a) < combining_class(b);
    });
    begin = end;
  }
}

struct Decomposition {
  std::array<utf8proc_int32_t, kDecompositionMax> parts{};
  std::ptrdiff_t count = 0;
};

Decomposition decompose(char32_t point) {
  Decomposition out;
  int boundary = 0;
  out.count = utf8proc_decompose_char(
      static_cast<utf8proc_int32_t>(point),
      out.parts.data(),
      static_cast<utf8proc_ssize_t>(out.parts.size()),
      static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE),
      &boundary
  );
  PLEIAD_CHECK(out.count > 0 && static_cast<std::size_t>(out.count) <= out.parts.size());
  return out;
}

void append_nfc(std::string_view text, std::string& out) {
  std::vector<utf8proc_int32_t> points;
  while (!text.empty()) {
    const auto point = decode_utf8(text);
    PLEIAD_CHECK(point.has_value(), "NFC wants well-formed UTF-8");
    const Decomposition whole = decompose(point->value);
    points.insert(points.end(), whole.parts.begin(), whole.parts.begin() + whole.count);
    text.remove_prefix(point->bytes);
  }
  order_marks(points);
  const auto composed = utf8proc_normalize_utf32(
      points.data(),
      static_cast<utf8proc_ssize_t>(points.size()),
      static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE)
  );
  PLEIAD_CHECK(composed >= 0);
  for (utf8proc_ssize_t i = 0; i < composed; ++i) {
    append_utf8(static_cast<char32_t>(points[static_cast<std::size_t>(i)]), out);
  }
}

std::size_t character_start(std::string_view text, std::size_t at) {
  while (at > 0 && at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0U) == 0x80) {
    --at;
  }
  return at;
}

// Whether `point` is ever the second half of a composition (utf8proc marks those with the high bit;
// Hangul vowels and trailing consonants compose by rule).
bool joins_left(utf8proc_int32_t point) {
  const bool hangul = (point >= 0x1161 && point <= 0x1175) || (point >= 0x11A8 && point <= 0x11C2);
  const auto index = utf8proc_get_property(point)->comb_index;
  return hangul || (index != UINT16_MAX && index >= 0x8000);
}

// Whether the text before byte `at` and from it on normalise independently: what the character at
// `at` decomposes to begins with a starter that composes with nothing before it.
bool is_boundary(std::string_view text, std::size_t at) {
  if (at == 0 || at >= text.size() || is_ascii(text[at])) return true;
  const auto point = decode_utf8(text.substr(at));
  if (!point) return false;
  const utf8proc_int32_t first = decompose(point->value).parts[0];
  return combining_class(first) == 0 && !joins_left(first);
}

std::size_t boundary_before(std::string_view text, std::size_t at) {
  at = character_start(text, at);
  while (!is_boundary(text, at)) {
    at = character_start(text, at - 1);
  }
  return at;
}

std::size_t boundary_after(std::string_view text, std::size_t at) {
  while (at < text.size() && (character_start(text, at) != at || !is_boundary(text, at))) {
    ++at;
  }
  return at;
}

Result<bool> wants_nfc(const Json& config, int depth) {
  if (config.is_null()) return false;
  const Json* type = config.find("type");
  const std::string* name = type == nullptr ? nullptr : type->as_string();
  if (name == nullptr) return corrupt("normalizer without a type");
  if (*name == "NFC") return true;
  const Json* members = config.find("normalizers");
  const JsonArray* list = members == nullptr ? nullptr : members->as_array();
  if (*name != "Sequence" || list == nullptr || depth > kSequenceDepthMax) {
    return unsupported("normalizer {}", *name);
  }
  bool any = false;
  for (const Json& member : *list) {
    PLEIAD_TRY(wants, wants_nfc(member, depth + 1));
    any = any || wants;
  }
  return any;
}

}  // namespace

std::string to_nfc(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  std::size_t at = 0;
  while (at < text.size()) {
    // ASCII stands as it is, but the last letter before other text may take a mark.
    std::size_t end = at;
    while (end < text.size() && is_ascii(text[end])) {
      ++end;
    }
    const std::size_t plain_end = end == text.size() || end == at ? end : end - 1;
    out.append(text.substr(at, plain_end - at));
    at = plain_end;
    while (end < text.size() && !is_ascii(text[end])) {
      ++end;
    }
    if (end > at) append_nfc(text.substr(at, end - at), out);
    at = end;
  }
  return out;
}

Result<Normalizer> Normalizer::build(const Json& config) {
  Normalizer normalizer;
  PLEIAD_TRY(nfc, wants_nfc(config, 0));
  normalizer.nfc_ = nfc;
  return normalizer;
}

MarkedText Normalizer::apply(std::string_view text, const std::vector<TextRange>& untrusted) const {
  MarkedText out;
  const bool ascii = std::all_of(text.begin(), text.end(), is_ascii);
  if (!nfc_ || ascii) return {std::string(text), untrusted};
  std::size_t done = 0;
  for (const TextRange& range : untrusted) {
    const std::size_t begin = std::max(done, boundary_before(text, range.begin));
    const std::size_t end = std::max(begin, boundary_after(text, range.end));
    out.text += to_nfc(text.substr(done, begin - done));
    const std::size_t mark = out.text.size();
    out.text += to_nfc(text.substr(begin, end - begin));
    out.untrusted.push_back({mark, out.text.size()});
    done = end;
  }
  out.text += to_nfc(text.substr(done));
  return out;
}

}  // namespace pleiad::text::detail
