#include "text/detail/jinja_tests.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/text/render.h"

namespace pleiad::text::detail {
namespace {

using ::testing::HasSubstr;

TEST(JinjaTests, TellTypesApart) {
  EXPECT_EQ(
      render(
          R"x({{ true is integer }}{{ 1 is integer }}{{ true is number }}{{ 1.0 is float }}{{ {} is sequence }}{{ 'a' is mapping }}{{ missing is iterable }})x"
      ),
      R"x(FalseTrueTrueTrueTrueFalseTrue)x"
  );
}

TEST(JinjaTests, CompareByName) {
  EXPECT_EQ(
      render(
          R"x({{ 3 is odd }}{{ 4 is divisibleby 2 }}{{ 1 is in [1] }}{{ 1 is not eq(1) }}{{ 'AB' is upper }})x"
      ),
      R"x(TrueTrueTrueFalseTrue)x"
  );
  EXPECT_THAT(render(R"x({{ 1 is divisibleby(0) }})x"), HasSubstr(R"x(by zero)x"));
  EXPECT_THAT(render(R"x({{ 'a' is odd }})x"), HasSubstr(R"x(divisibility test)x"));
  EXPECT_THAT(render(R"x({{ 1 is eq }})x"), HasSubstr(R"x(needs the argument)x"));
}

}  // namespace
}  // namespace pleiad::text::detail
