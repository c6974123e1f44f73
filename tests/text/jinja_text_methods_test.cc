#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/text/render.h"
#include "text/detail/jinja_attributes.h"

namespace pleiad::text::detail {
namespace {

using ::testing::HasSubstr;

TEST(JinjaTextMethods, WorkAsOnStr) {
  EXPECT_EQ(
      render(R"x({{ 'a=b=c'.partition('=') }}{{ 'a'.center(4, '*') }}{{ '-7'.zfill(4) }})x"),
      R"x(('a', '=', 'b=c')*a**-007)x"
  );
  EXPECT_EQ(
      render(
          R"x({{ 'aéa'.find('a', 1) }}{{ 'x'.startswith(('y', 'x')) }}{{ '{1}{0}'.format(1, 'b') }})x"
      ),
      R"x(2Trueb1)x"
  );
}

TEST(JinjaTextMethods, RefuseArgumentsThatDoNotFit) {
  EXPECT_THAT(render(R"x({{ 'a'.split('') }})x"), HasSubstr(R"x(empty separator)x"));
  EXPECT_THAT(render(R"x({{ 'a'.join([1]) }})x"), HasSubstr(R"x(wants a string, not int)x"));
  EXPECT_THAT(render(R"x({{ 'a'.index('b') }})x"), HasSubstr(R"x(substring not found)x"));
  EXPECT_THAT(render(R"x({{ 'a'.center(10 ** 9) }})x"), HasSubstr(R"x(width)x"));
  EXPECT_THAT(render(R"x({{ '{0.x}'.format(1) }})x"), HasSubstr(R"x(field '0.x')x"));
  EXPECT_THAT(render(R"x({{ '{}'.format() }})x"), HasSubstr(R"x(no argument)x"));
}

}  // namespace
}  // namespace pleiad::text::detail
