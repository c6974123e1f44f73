#include "text/detail/jinja_operators.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/text/render.h"

namespace pleiad::text::detail {
namespace {

using ::testing::HasSubstr;

TEST(JinjaOperators, DivideAsPythonDoes) {
  EXPECT_EQ(render(R"x({{ -7 // 2 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 7 / 2 }})x"), R"x(-4 2 -2 3.5)x");
  EXPECT_THAT(render(R"x({{ 1 // 0 }})x"), HasSubstr(R"x(by zero)x"));
  EXPECT_THAT(render(R"x({{ 1.5 % 0 }})x"), HasSubstr(R"x(by zero)x"));
}

TEST(JinjaOperators, NeverOverflowSilently) {
  EXPECT_THAT(render(R"x({{ 9223372036854775807 + 1 }})x"), HasSubstr(R"x(64 bits)x"));
  EXPECT_THAT(render(R"x({{ 10 ** 30 }})x"), HasSubstr(R"x(64 bits)x"));
  EXPECT_EQ(render(R"x({{ (-9223372036854775807 - 1) % -1 }})x"), R"x(0)x");
  EXPECT_THAT(render(R"x({{ (-9223372036854775807 - 1) // -1 }})x"), HasSubstr(R"x(64 bits)x"));
}

TEST(JinjaOperators, CompareOnlyWhatCompares) {
  EXPECT_EQ(render(R"x({{ 1 == 1.0 }}{{ [1] < [2] }}{{ 'a' < 'b' }})x"), R"x(TrueTrueTrue)x");
  EXPECT_THAT(render(R"x({{ 1 < 'a' }})x"), HasSubstr(R"x(unsupported operand)x"));
  EXPECT_THAT(render(R"x({{ missing < 1 }})x"), HasSubstr(R"x('missing' is undefined)x"));
}

}  // namespace
}  // namespace pleiad::text::detail
