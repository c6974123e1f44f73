#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/text/render.h"
#include "text/detail/jinja_operators.h"

namespace pleiad::text::detail {
namespace {

using ::testing::HasSubstr;

TEST(JinjaItems, SlicesCountCharacters) {
  EXPECT_EQ(render(R"x({{ 'aéb'[1] }}{{ 'aéb'[::-1] }}{{ 'aéb'[-2:] }})x"), R"x(ébéaéb)x");
  EXPECT_THAT(render(R"x({{ 'a'[::0] }})x"), HasSubstr(R"x(step cannot be zero)x"));
  EXPECT_EQ(
      render(R"x({{ [1, 2, 3][9223372036854775807:] }}{{ [1, 2, 3][::9223372036854775807] }})x"),
      R"x([][1])x"
  );
}

TEST(JinjaItems, MissingItemsAreUndefined) {
  EXPECT_EQ(
      render(R"x({{ [1][5] is defined }}{{ {}['a'] is defined }}{{ 5[0] is defined }})x"),
      R"x(FalseFalseFalse)x"
  );
  EXPECT_THAT(render(R"x({{ {}['a']['b'] }})x"), HasSubstr(R"x(undefined)x"));
}

TEST(JinjaItems, AnIteratorGivesItsItemsOnce) {
  EXPECT_EQ(
      render(R"x({% set g = [1, 2] | select %}{{ g | first }}{{ g | list }}{{ g | list }})x"),
      R"x(1[2][])x"
  );
}

}  // namespace
}  // namespace pleiad::text::detail
