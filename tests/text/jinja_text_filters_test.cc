#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/text/render.h"
#include "text/detail/jinja_filters.h"

namespace pleiad::text::detail {
namespace {

using ::testing::HasSubstr;

TEST(JinjaTextFilters, ChangeCaseBeyondAscii) {
  EXPECT_EQ(
      render(R"x({{ 'straße' | upper }} {{ 'ÀÉ' | lower }} {{ 'a-b c' | title }})x"),
      R"x(STRASSE àé A-B C)x"
  );
}

TEST(JinjaTextFilters, RoundAndConvertAsPythonDoes) {
  EXPECT_EQ(
      render(
          R"x({{ 2.5 | round }} {{ 2.675 | round(2) }} {{ '0xff' | int(base=16) }} {{ '42.9' | int }})x"
      ),
      R"x(2.0 2.67 255 42)x"
  );
  EXPECT_THAT(render(R"x({{ 1e300 | int }})x"), HasSubstr(R"x(64 bits)x"));
  EXPECT_THAT(render(R"x({{ 1 | int(base=99) }})x"), HasSubstr(R"x(base 99)x"));
}

TEST(JinjaTextFilters, IndentLines) {
  EXPECT_EQ(
      render(R"x({{ 'a

b' | indent(2) }})x"),
      R"x(a

  b)x"
  );
  EXPECT_THAT(render(R"x({{ 'a' | indent(99999) }})x"), HasSubstr(R"x(at most 1000)x"));
}

TEST(JinjaTextFilters, ReplaceEverywhereOrSoOften) {
  EXPECT_EQ(
      render(R"x({{ 'aaa' | replace('a', 'b', 2) }}{{ 'ab' | replace('', '-') }})x"),
      R"x(bba-a-b-)x"
  );
  EXPECT_THAT(render(R"x({{ 'a' | replace('a') }})x"), HasSubstr(R"x(needs the argument 'new')x"));
}

}  // namespace
}  // namespace pleiad::text::detail
