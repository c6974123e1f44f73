#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/text/render.h"

namespace pleiad::text::detail {
namespace {

using ::testing::HasSubstr;

TEST(JinjaEvaluate, StopsAtTheFirstOperandThatDecides) {
  EXPECT_EQ(
      render(R"x({{ 1 or missing.x }}{{ 0 and missing.x }}{{ 2 > 1 > 1 }})x"), R"x(10False)x"
  );
}

TEST(JinjaEvaluate, SpreadsArguments) {
  EXPECT_EQ(
      render(
          R"x({% macro m(a, b) %}{{ a }}{{ b }}{% endmacro %}{{ m(*[1, 2]) }}{{ m(**{'a': 3, 'b': 4}) }})x"
      ),
      R"x(1234)x"
  );
  EXPECT_THAT(
      render(R"x({% macro m() %}{% endmacro %}{{ m(**1) }})x"), HasSubstr(R"x(wants a mapping)x")
  );
}

TEST(JinjaEvaluate, KeepsTheLastOfEqualKeys) {
  EXPECT_EQ(render(R"x({{ {'a': 1, 'b': 2, 'a': 3} }})x"), R"x({'a': 3, 'b': 2})x");
}

}  // namespace
}  // namespace pleiad::text::detail
