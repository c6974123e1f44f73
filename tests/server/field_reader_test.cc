#include "server/field_reader.h"

#include <cstdint>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/server/support.h"

namespace pleiad::server {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr std::int64_t kLowest = std::numeric_limits<std::int64_t>::min();
constexpr std::int64_t kHighest = std::numeric_limits<std::int64_t>::max();

TEST(FieldReader, GivesTheFallbackForWhatIsMissingOrNull) {
  const Json object = json(R"({"null": null})");
  FieldReader reader(object);

  for (const char* key : {"null", "missing"}) {
    EXPECT_EQ(reader.find(key), nullptr);
    EXPECT_TRUE(reader.boolean(key, true));
    EXPECT_EQ(reader.integer(key, 7, 0, 1), 7);
    EXPECT_EQ(reader.integer_if(key, 0, 1), std::nullopt);
    EXPECT_EQ(reader.number(key, 0.5, 2.0, 3.0), 0.5);
    EXPECT_EQ(reader.text(key, "words"), "words");
    EXPECT_THAT(reader.texts(key, 1), IsEmpty());
    reader.refuse(key, "never said");
  }
  EXPECT_FALSE(reader.error());
}

TEST(FieldReader, ReadsValuesOfTheRightType) {
  const Json object =
      json(R"({"b": false, "i": -3, "whole": 2.0, "d": 0.25, "t": "a", "l": ["x", "y"]})");
  FieldReader reader(object);

  EXPECT_FALSE(reader.boolean("b", true));
  EXPECT_EQ(reader.integer("i", 0, -3, 3), -3);
  EXPECT_EQ(reader.integer("whole", 0, 0, 3), 2);
  EXPECT_EQ(reader.number("d", 0.0, 0.25, 1.0), 0.25);
  EXPECT_EQ(reader.number("i", 0.0, -5.0, 5.0), -3.0);
  EXPECT_EQ(reader.text("t", ""), "a");
  EXPECT_THAT(reader.texts("t", 1), ElementsAre("a"));
  EXPECT_THAT(reader.texts("l", 2), ElementsAre("x", "y"));
  EXPECT_FALSE(reader.error());
}

struct BadField {
  std::string_view object;
  void (*read)(FieldReader& reader);
  std::string_view words;
};

TEST(FieldReader, NamesTheFieldTheRangeAndTheValue) {
  const BadField cases[] = {
      {R"({"k": 1})",
       [](FieldReader& r) { r.boolean("k", false); },
       "k must be true or false, got 1"},
      {R"({"k": "true"})", [](FieldReader& r) { r.boolean("k", false); }, "got \"true\""},
      {R"({"k": 4})",
       [](FieldReader& r) { r.integer("k", 0, 0, 3); },
       "k must be an integer between 0 and 3, got 4"},
      {R"({"k": -1})", [](FieldReader& r) { r.integer("k", 0, 0, 3); }, "got -1"},
      {R"({"k": 1.5})", [](FieldReader& r) { r.integer("k", 0, 0, 3); }, "got 1.5"},
      {R"({"k": "1"})", [](FieldReader& r) { r.integer("k", 0, 0, 3); }, "got \"1\""},
      {R"({"k": true})", [](FieldReader& r) { r.integer("k", 0, 0, 3); }, "got true"},
      {R"({"k": 9223372036854775808})",
       [](FieldReader& r) { r.integer("k", 0, kLowest, kHighest); },
       "got 9223372036854775808"},
      {R"({"k": 2.5})",
       [](FieldReader& r) { r.number("k", 0, 0, 2); },
       "k must be a number between 0 and 2, got 2.5"},
      {R"({"k": "2"})", [](FieldReader& r) { r.number("k", 0, 0, 2); }, "got \"2\""},
      {R"({"k": [1]})", [](FieldReader& r) { r.number("k", 0, 0, 2); }, "got array"},
      {R"({"k": {}})", [](FieldReader& r) { r.text("k", ""); }, "k must be a string, got object"},
      {R"({"k": 3})",
       [](FieldReader& r) { r.texts("k", 2); },
       "k must be a string or a list of at most 2 strings"},
      {R"({"k": ["a", "b", "c"]})", [](FieldReader& r) { r.texts("k", 2); }, "at most 2"},
      {R"({"k": ["a", 2]})", [](FieldReader& r) { r.texts("k", 2); }, "k must hold strings, got 2"},
  };
  for (const BadField& c : cases) {
    const Json object = json(c.object);
    FieldReader reader(object);

    c.read(reader);

    ASSERT_TRUE(reader.error()) << c.object;
    EXPECT_EQ(reader.error()->status, 400);
    EXPECT_EQ(reader.error()->param, "k");
    EXPECT_EQ(reader.error()->code, "invalid_value");
    EXPECT_THAT(reader.error()->message, HasSubstr(c.words));
  }
}

TEST(FieldReader, ShowsOnlyTheStartOfALongValue) {
  Json object;
  object.set("k", std::string(100'000, 'x'));
  FieldReader reader(object);

  reader.integer("k", 0, 0, 1);

  EXPECT_LT(reader.error()->message.size(), 200U);
}

TEST(FieldReader, RemembersTheFirstFailure) {
  const Json object = json(R"({"a": 1, "b": 2})");
  FieldReader reader(object);

  reader.text("a", "");
  reader.text("b", "");
  reader.refuse("b", "no");

  EXPECT_EQ(reader.error()->param, "a");
}

TEST(FieldReader, RefusesWhatThisServerDoesNotDo) {
  const Json object = json(R"({"a": false})");
  FieldReader reader(object);

  reader.refuse("a", "a is not supported");

  EXPECT_EQ(reader.error()->code, "unsupported_parameter");
  EXPECT_EQ(reader.error()->message, "a is not supported");
}

}  // namespace
}  // namespace pleiad::server
