#include "base/utf8.h"

#include <string>

#include <gtest/gtest.h>

namespace pleiad {
namespace {

TEST(Utf8, EveryScalarValueSurvivesARoundTrip) {
  for (char32_t value = 0; value <= 0x10FFFF; ++value) {
    if (value >= 0xD800 && value <= 0xDFFF) continue;
    std::string text;
    append_utf8(value, text);
    const auto point = decode_utf8(text);
    ASSERT_TRUE(point.has_value()) << static_cast<unsigned>(value);
    ASSERT_EQ(point->value, value);
    ASSERT_EQ(point->bytes, text.size());
  }
}

TEST(Utf8, RefusesOverlongSurrogateAndTooLargeForms) {
  for (const char* text :
       {"\xC0\x80",
        "\xC1\xBF",
        "\xE0\x80\x80",
        "\xED\xA0\x80",
        "\xF0\x80\x80\x80",
        "\xF4\x90\x80\x80",
        "\xF5\x80\x80\x80",
        "\x80",
        "\xE2\x82"}) {
    EXPECT_FALSE(is_valid_utf8(text));
  }
  EXPECT_TRUE(is_valid_utf8("h\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80"));
}

TEST(Utf8, CountsTheBytesThatMoreBytesCouldComplete) {
  EXPECT_EQ(incomplete_utf8_tail("abc"), 0U);
  EXPECT_EQ(incomplete_utf8_tail("a\xC3"), 1U);
  EXPECT_EQ(incomplete_utf8_tail("a\xE2\x82"), 2U);
  EXPECT_EQ(incomplete_utf8_tail("a\xF0\x9F\x98"), 3U);
  EXPECT_EQ(incomplete_utf8_tail("a\xF0\x9F\x98\x80"), 0U);
  EXPECT_EQ(incomplete_utf8_tail("\x80\x80"), 0U);
  EXPECT_EQ(incomplete_utf8_tail("\xED\xA0"), 0U);
}

TEST(Utf8, ReplacesEachMaximalSubpartOnce) {
  const std::string r = "\xEF\xBF\xBD";

  EXPECT_EQ(replace_invalid_utf8("ok"), "ok");
  EXPECT_EQ(replace_invalid_utf8("\xE2\x82z"), r + "z");
  EXPECT_EQ(replace_invalid_utf8("\xFF\xFE"), r + r);
  // The example of the Unicode standard, table 3-8.
  EXPECT_EQ(
      replace_invalid_utf8("a\xF1\x80\x80\xE1\x80\xC2"
                           "b\x80"
                           "c"),
      "a" + r + r + r + "b" + r + "c"
  );
}

}  // namespace
}  // namespace pleiad
