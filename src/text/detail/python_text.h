#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/text_range.h"

namespace pleiad::text::detail {

// What Python's str does, on well-formed UTF-8. Positions are bytes unless they say characters.

// Whether str.isspace() holds for the character.
bool is_python_space(char32_t point);

enum class Sides { Left, Right, Both };

// What str.strip() leaves; `chars` names the characters to strip, absent: blanks.
TextRange strip_range(std::string_view text, std::optional<std::string_view> chars, Sides sides);

// The parts of str.split(); `splits_max` < 0 is no limit. An absent separator is any run of blanks.
// REQUIRES: a separator, if given, is not empty.
std::vector<TextRange> split_ranges(
    std::string_view text,
    std::optional<std::string_view> separator,
    std::int64_t splits_max
);
// The same counted from the right: str.rsplit().
std::vector<TextRange> rsplit_ranges(
    std::string_view text,
    std::optional<std::string_view> separator,
    std::int64_t splits_max
);
// The lines of str.splitlines().
std::vector<TextRange> line_ranges(std::string_view text, bool keep_ends);

// The byte at which each character starts, and the end: [characters + 1].
std::vector<std::size_t> character_starts(std::string_view text);
std::size_t character_count(std::string_view text);

void append_upper(char32_t point, std::string& out);
void append_lower(char32_t point, std::string& out);
// Whether the character has case (a letter that str.title() starts words at).
bool is_cased(char32_t point);
bool is_alphabetic(char32_t point);
bool is_numeric(char32_t point);
bool is_decimal(char32_t point);
bool is_upper(char32_t point);
bool is_lower(char32_t point);

// repr() of a float: the shortest digits that read back, as Python lays them out.
std::string python_float(double value);

}  // namespace pleiad::text::detail
