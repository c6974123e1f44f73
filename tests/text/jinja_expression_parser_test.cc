#include "text/detail/jinja_expression_parser.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/text/render.h"

namespace pleiad::text::detail {
namespace {

using ::testing::HasSubstr;

TEST(JinjaExpressionParser, FollowsThePrecedenceOfJinja) {
  EXPECT_EQ(render("{{ 1 + 2 * 3 ** 2 }}"), "19");
  EXPECT_EQ(render("{{ -2 ** 2 }}"), "4") << "a sign binds tighter than a power";
  EXPECT_EQ(render("{{ 2 ** 3 ** 2 }}"), "64") << "powers group from the left";
  EXPECT_EQ(
      render("{{ 1 ~ 2 + 3 }}"),
      "!chat template line 1: unsupported operand types for +: 'str' and 'int'"
  );
  EXPECT_EQ(render("{{ not 1 == 2 }}"), "True");
  EXPECT_EQ(render("{{ 1 if 0 else 2 if 0 else 3 }}"), "3");
}

TEST(JinjaExpressionParser, RefusesWhatIsNoExpression) {
  EXPECT_THAT(render("{{ }}"), HasSubstr("expected an expression"));
  EXPECT_THAT(render("{{ a b }}"), HasSubstr("expected the end of the output before 'b'"));
  EXPECT_THAT(render("{{ f(a=1, 2) }}"), HasSubstr("positional argument behind keywords"));
  EXPECT_THAT(render("{{ a[] }}"), HasSubstr("without an index"));
  EXPECT_THAT(render("{{ a[1:2:3:4] }}"), HasSubstr("more than three parts"));
  EXPECT_THAT(render("{{ 99999999999999999999 }}"), HasSubstr("64 bits"));
  EXPECT_THAT(render("{{ a is b }}"), HasSubstr("test 'b'"));
  EXPECT_THAT(render("{{ a is none is none }}"), HasSubstr("chained"));
}

}  // namespace
}  // namespace pleiad::text::detail
