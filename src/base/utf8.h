#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace pleiad {

// One decoded code point and how many bytes it took.
struct CodePoint {
  char32_t value = 0;
  std::size_t bytes = 0;
};

// The code point at the start of `text`, or nothing when the bytes are not well-formed UTF-8 (RFC
// 3629: no overlong forms, no surrogates, at most U+10FFFF). REQUIRES: text is not empty.
std::optional<CodePoint> decode_utf8(std::string_view text);

// Appends `value` to `out`. REQUIRES: a scalar value (not a surrogate, at most U+10FFFF).
void append_utf8(char32_t value, std::string& out);

[[nodiscard]] bool is_valid_utf8(std::string_view text);

// How many bytes at the end of `text` are the start of a sequence that more bytes could complete
// (0 to 3). A streaming writer holds these back.
std::size_t incomplete_utf8_tail(std::string_view text);

// `text` with every ill-formed part replaced by U+FFFD, one per maximal subpart (Unicode 15 §3.9).
std::string replace_invalid_utf8(std::string_view text);

}  // namespace pleiad
