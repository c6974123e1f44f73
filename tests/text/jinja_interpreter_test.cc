#include "text/detail/jinja_interpreter.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/text/render.h"

namespace pleiad::text::detail {
namespace {

using ::testing::HasSubstr;

TEST(JinjaInterpreter, LoopsHaveTheirOwnScope) {
  EXPECT_EQ(
      render(R"x({% set x = 1 %}{% for i in [1, 2] %}{{ x }}{% set x = 9 %}{% endfor %}{{ x }})x"),
      R"x(111)x"
  );
  EXPECT_EQ(
      render(
          R"x({% for i in [1, 2, 3] if i != 2 %}{{ loop.index }}{{ i }} {% else %}none{% endfor %})x"
      ),
      R"x(11 23 )x"
  );
}

TEST(JinjaInterpreter, BreakAndContinueEndOnlyTheInnermostLoop) {
  EXPECT_EQ(
      render(
          R"x({% for i in [1, 2] %}{% for j in [1, 2] %}{% if j == 2 %}{% break %}{% endif %}{{ i }}{{ j }} {% endfor %}{% endfor %})x"
      ),
      R"x(11 21 )x"
  );
}

TEST(JinjaInterpreter, RefusesToUnpackWhatDoesNotFit) {
  EXPECT_THAT(
      render(R"x({% set a, b = [1] %})x"), HasSubstr(R"x(1 values to unpack into 2 names)x")
  );
  EXPECT_THAT(render(R"x({% set a, b = missing %})x"), HasSubstr(R"x('missing' is undefined)x"));
  EXPECT_THAT(render(R"x({% set x = 1 %}{% set x.y = 2 %})x"), HasSubstr(R"x(no namespace)x"));
}

}  // namespace
}  // namespace pleiad::text::detail
