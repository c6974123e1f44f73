#include "text/detail/jinja_attributes.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/text/render.h"

namespace pleiad::text::detail {
namespace {

using ::testing::HasSubstr;

TEST(JinjaAttributes, MethodsComeBeforeMembersWithADotAndAfterThemInBrackets) {
  EXPECT_EQ(
      render(
          R"x({% set d = {'items': 1, 'x': 2} %}{{ d['items'] }}{{ d.x }}{{ d.items() | list | length }})x"
      ),
      R"x(122)x"
  );
  EXPECT_EQ(
      render(R"x({{ {}.get('a') }}{{ {}.get('a', 1) }}{{ [1, 1].count(1) }})x"), R"x(None12)x"
  );
}

TEST(JinjaAttributes, RefuseEveryWayOut) {
  EXPECT_THAT(render(R"x({{ ''.__class__.__mro__ }})x"), HasSubstr(R"x(undefined)x"));
  EXPECT_THAT(render(R"x({{ [].append(1) }})x"), HasSubstr(R"x(would change)x"));
  EXPECT_THAT(render(R"x({{ {}.pop('a') }})x"), HasSubstr(R"x(would change)x"));
  EXPECT_THAT(render(R"x({{ ''.nosuch() }})x"), HasSubstr(R"x(no method 'nosuch')x"));
}

}  // namespace
}  // namespace pleiad::text::detail
