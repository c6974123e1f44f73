#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/text/render.h"
#include "text/detail/jinja_interpreter.h"

namespace pleiad::text::detail {
namespace {

using ::testing::HasSubstr;

TEST(JinjaCalls, MacrosTakeDefaultsKeywordsAndTheRest) {
  EXPECT_EQ(
      render(
          R"x({% macro m(a, b=a) %}{{ a }}{{ b }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1) }}{{ m(1, 2, 3, c=4) }})x"
      ),
      R"x(11(){}12(3,){'c': 4})x"
  );
}

TEST(JinjaCalls, MacrosRefuseWhatTheyDoNotTake) {
  EXPECT_THAT(
      render(R"x({% macro m(a) %}{% endmacro %}{{ m(1, 2) }})x"),
      HasSubstr(R"x(takes 1 arguments, not 2)x")
  );
  EXPECT_THAT(
      render(R"x({% macro m(a) %}{% endmacro %}{{ m(b=2) }})x"), HasSubstr(R"x(no argument 'b')x")
  );
  EXPECT_THAT(
      render(R"x({% macro m(a) %}{% endmacro %}{{ m(1, a=2) }})x"), HasSubstr(R"x(twice)x")
  );
  EXPECT_THAT(render(R"x({{ 5() }})x"), HasSubstr(R"x(cannot be called)x"));
  EXPECT_THAT(render(R"x({{ nosuch() }})x"), HasSubstr(R"x('nosuch' is undefined)x"));
}

TEST(JinjaCalls, GlobalsCheckTheirArguments) {
  EXPECT_THAT(render(R"x({{ range() }})x"), HasSubstr(R"x(one to three)x"));
  EXPECT_THAT(render(R"x({{ range(1, 2, 0) }})x"), HasSubstr(R"x(step of zero)x"));
  EXPECT_THAT(render(R"x({{ dict(1) }})x"), HasSubstr(R"x(not iterable)x"));
  EXPECT_THAT(render(R"x({{ dict([1]) }})x"), HasSubstr(R"x(pairs)x"));
  EXPECT_EQ(
      render(R"x({{ dict([('a', 1)], b=2) }}{{ namespace(a=1).a }})x"), R"x({'a': 1, 'b': 2}1)x"
  );
}

}  // namespace
}  // namespace pleiad::text::detail
