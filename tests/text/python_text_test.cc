#include "text/detail/python_text.h"

#include <limits>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pleiad::text::detail {
namespace {

std::string shown(std::string_view text, const std::vector<TextRange>& ranges) {
  std::string out;
  for (const TextRange& range : ranges) {
    out += std::string(text.substr(range.begin, range.end - range.begin)) + "|";
  }
  return out;
}

TEST(PythonText, SplitsAsStrDoes) {
  EXPECT_EQ(shown("a,b,,c", split_ranges("a,b,,c", ",", -1)), "a|b||c|");
  EXPECT_EQ(shown("a,b,,c", split_ranges("a,b,,c", ",", 1)), "a|b,,c|");
  EXPECT_EQ(shown("a,b,,c", rsplit_ranges("a,b,,c", ",", 1)), "a,b,|c|");
  EXPECT_EQ(shown(" a  b ", split_ranges(" a  b ", std::nullopt, -1)), "a|b|");
  EXPECT_EQ(shown(" a  b ", split_ranges(" a  b ", std::nullopt, 1)), "a|b |");
  EXPECT_EQ(shown(" a  b ", rsplit_ranges(" a  b ", std::nullopt, 1)), " a|b|");
  EXPECT_EQ(shown("", split_ranges("", std::nullopt, -1)), "");
  EXPECT_EQ(shown("", split_ranges("", ",", -1)), "|");
}

TEST(PythonText, KnowsLineEndsAndBlanks) {
  EXPECT_EQ(shown("a\r\nb\n\nc", line_ranges("a\r\nb\n\nc", false)), "a|b||c|");
  EXPECT_EQ(shown("a\r\nb", line_ranges("a\r\nb", true)), "a\r\n|b|");
  EXPECT_EQ(strip_range("\xC2\xA0x ", std::nullopt, Sides::Both), (TextRange{2, 3}));
  EXPECT_EQ(strip_range("xyx", "x", Sides::Left), (TextRange{1, 3}));
  EXPECT_TRUE(is_python_space(0x1C));
  EXPECT_FALSE(is_python_space(0x200B));
}

TEST(PythonText, PrintsFloatsAsReprDoes) {
  EXPECT_EQ(python_float(1.0), "1.0");
  EXPECT_EQ(python_float(0.1), "0.1");
  EXPECT_EQ(python_float(1e15), "1000000000000000.0");
  EXPECT_EQ(python_float(1e16), "1e+16");
  EXPECT_EQ(python_float(0.0001), "0.0001");
  EXPECT_EQ(python_float(0.00001), "1e-05");
  EXPECT_EQ(python_float(-2.5e-300), "-2.5e-300");
  EXPECT_EQ(python_float(std::numeric_limits<double>::infinity()), "inf");
}

TEST(PythonText, CountsCharactersNotBytes) {
  EXPECT_EQ(character_count("a\xC3\xA9\xF0\x9F\x90\x89"), 3U);
  EXPECT_EQ(character_starts("a\xC3\xA9"), (std::vector<std::size_t>{0, 1, 3}));
}

}  // namespace
}  // namespace pleiad::text::detail
