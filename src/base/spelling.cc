#include "base/spelling.h"

#include <algorithm>
#include <cstddef>
#include <vector>

#include "base/check.h"

namespace pleiad {
namespace {

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

// Levenshtein's distance, one row of his table at a time.
std::size_t distance(std::string_view from, std::string_view to) {
  std::vector<std::size_t> row(to.size() + 1);
  for (std::size_t j = 0; j <= to.size(); ++j) {
    row[j] = j;
  }
  for (std::size_t i = 1; i <= from.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= to.size(); ++j) {
      const std::size_t changed = diagonal + (lower(from[i - 1]) == lower(to[j - 1]) ? 0U : 1U);
      diagonal = row[j];
      row[j] = std::min({changed, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[to.size()];
}

}  // namespace

std::string_view nearest_word(std::string_view word, std::span<const std::string_view> known) {
  PLEIAD_CHECK(!known.empty());
  constexpr std::size_t kWordBytesMax = 64;  // what comes behind does not make a word clearer
  const std::string_view start = word.substr(0, kWordBytesMax);
  return *std::ranges::min_element(known, {}, [start](std::string_view candidate) {
    return distance(start, candidate);
  });
}

std::string listed(std::span<const std::string_view> words) {
  std::string out;
  for (const std::string_view word : words) {
    if (!out.empty()) out += ", ";
    out += word;
  }
  return out;
}

}  // namespace pleiad
