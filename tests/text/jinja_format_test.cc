#include "text/detail/jinja_format.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/text/render.h"

namespace pleiad::text::detail {
namespace {

using ::testing::HasSubstr;

TEST(JinjaFormat, PrintsAsPythonDoes) {
  EXPECT_EQ(
      render(R"x({{ [1, 2.0, none, true, 'a', "it's"] }})x"),
      R"x([1, 2.0, None, True, 'a', "it's"])x"
  );
  EXPECT_EQ(render(R"x({{ {'a': (1,)} }})x"), R"x({'a': (1,)})x");
  EXPECT_THAT(render(R"x({{ range(3) }})x"), HasSubstr(R"x(cannot be printed)x"));
  EXPECT_THAT(render(R"x({{ namespace() }})x"), HasSubstr(R"x(cannot be printed)x"));
}

TEST(JinjaFormat, FormatsWithPercent) {
  EXPECT_EQ(
      render(R"x({{ '%05d|%-4s|%.2f|%x|%%' % (42, 'a', 1.005, 255) }})x"),
      R"x(00042|a   |1.00|ff|%)x"
  );
  EXPECT_THAT(render(R"x({{ '%s' % () }})x"), HasSubstr(R"x(not enough)x"));
  EXPECT_THAT(render(R"x({{ '%d' % 'a' }})x"), HasSubstr(R"x(a number is required)x"));
  EXPECT_THAT(render(R"x({{ '%' % 1 }})x"), HasSubstr(R"x(incomplete)x"));
  EXPECT_THAT(render(R"x({{ '%q' % 1 }})x"), HasSubstr(R"x(format %q)x"));
}

}  // namespace
}  // namespace pleiad::text::detail
