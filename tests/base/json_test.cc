#include "base/json.h"

#include <cstdint>
#include <string>

#include <gtest/gtest.h>

namespace pleiad {
namespace {

std::string nested(int levels) {
  return std::string(static_cast<std::size_t>(levels), '[') +
         std::string(static_cast<std::size_t>(levels), ']');
}

TEST(Json, KeepsTypesAndOrderOfMembers) {
  const auto json = parse_json(R"({"b":1,"a":[true,null,"x",-2,1.5]})");

  ASSERT_TRUE(json.ok());
  EXPECT_EQ(json->dump(), R"({"b":1,"a":[true,null,"x",-2,1.5]})");
  EXPECT_EQ(json->find("b")->as_int(), 1);
  EXPECT_EQ(json->find("missing"), nullptr);
}

TEST(Json, KeepsAll64BitsOfIntegers) {
  EXPECT_EQ(parse_json("-9223372036854775808")->as_int(), INT64_MIN);
  EXPECT_EQ(parse_json("18446744073709551615")->dump(), "18446744073709551615");
  EXPECT_FALSE(parse_json("18446744073709551615")->as_int().has_value());
}

TEST(Json, WholeDoublesAreIntegersAndOthersAreNot) {
  EXPECT_EQ(parse_json("3.0")->as_int(), 3);
  EXPECT_FALSE(parse_json("3.5")->as_int().has_value());
  EXPECT_FALSE(parse_json("9.3e18")->as_int().has_value());
  EXPECT_FALSE(parse_json("\"3\"")->as_int().has_value());
}

TEST(Json, RefusesMalformedText) {
  for (const char* text :
       {"",
        "{",
        "[1,]",
        "{\"a\":}",
        "nul",
        "1 2",
        "NaN",
        "1e400",
        "\"\xC3\"",
        "'a'",
        "{\"a\":1,\"a\":2}"}) {
    const auto json = parse_json(text);
    EXPECT_FALSE(json.ok()) << text;
    EXPECT_EQ(json.error().kind, ErrorKind::InvalidInput) << text;
  }
}

TEST(Json, LoneSurrogatesAreRefused) {
  EXPECT_FALSE(parse_json(R"("\ud83d")").ok());
}

TEST(Json, DepthIsBoundedHoweverDeepTheText) {
  EXPECT_TRUE(parse_json(nested(64)).ok());
  EXPECT_FALSE(parse_json(nested(65)).ok());
  EXPECT_FALSE(parse_json(std::string(1'000'000, '[')).ok());
}

TEST(Json, LengthIsBounded) {
  const auto json = parse_json("[1,2,3]", {.bytes_max = 3});

  ASSERT_FALSE(json.ok());
  EXPECT_NE(json.error().message.find("at most 3"), std::string::npos);
}

TEST(Json, StringsAreEscapedAndMended) {
  EXPECT_EQ(Json("a\"\\\n\x01").dump(), R"("a\"\\\n\u0001")");
  EXPECT_EQ(Json("\xFFz").dump(), "\"\xEF\xBF\xBDz\"");
}

TEST(Json, SetReplacesAMemberInItsPlace) {
  Json json;
  json.set("a", 1);
  json.set("b", 2);
  json.set("a", "x");

  EXPECT_EQ(json.dump(), R"({"a":"x","b":2})");
}

TEST(Json, DoublesComeBackAsDoubles) {
  EXPECT_EQ(Json(2.0).dump(), "2.0");
  EXPECT_EQ(Json(0.1).dump(), "0.1");
  EXPECT_EQ(Json(1e300 * 1e300).dump(), "null");
}

}  // namespace
}  // namespace pleiad
