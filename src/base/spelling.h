#pragma once

#include <span>
#include <string>
#include <string_view>

namespace pleiad {

// Of `known`, the word that takes the fewest changed, added and left out letters to become `word`;
// the first of those that tie. Case does not count. Takes time of order |word| times all letters of
// `known`. REQUIRES: `known` is not empty.
std::string_view nearest_word(std::string_view word, std::span<const std::string_view> known);

// "a, b, c".
std::string listed(std::span<const std::string_view> words);

}  // namespace pleiad
