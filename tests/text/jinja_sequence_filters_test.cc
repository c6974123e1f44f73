#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/text/render.h"
#include "text/detail/jinja_filters.h"

namespace pleiad::text::detail {
namespace {

using ::testing::HasSubstr;

TEST(JinjaSequenceFilters, SelectAndMap) {
  EXPECT_EQ(
      render(
          R"x({{ [{'a': 1}, {'a': 2}, {}] | selectattr('a', 'defined') | map(attribute='a') | list }})x"
      ),
      R"x([1, 2])x"
  );
  EXPECT_EQ(
      render(R"x({{ ['b', 'A'] | sort }}{{ ['b', 'A'] | map('upper') | join('-') }})x"),
      R"x(['A', 'b']B-A)x"
  );
  EXPECT_THAT(render(R"x({{ [1] | select('nosuch') | list }})x"), HasSubstr(R"x(test 'nosuch')x"));
  EXPECT_THAT(render(R"x({{ [1] | map('nosuch') | list }})x"), HasSubstr(R"x(filter 'nosuch')x"));
  EXPECT_THAT(
      render(R"x({{ [1] | map | list }})x"), HasSubstr(R"x(needs the argument 'attribute')x")
  );
  EXPECT_THAT(render(R"x({{ [1] | selectattr | list }})x"), HasSubstr(R"x(missing attribute)x"));
}

TEST(JinjaSequenceFilters, RefuseWhatDoesNotSortOrIterate) {
  EXPECT_THAT(render(R"x({{ [1, 'a'] | sort }})x"), HasSubstr(R"x(unsupported operand)x"));
  EXPECT_THAT(render(R"x({{ 5 | list }})x"), HasSubstr(R"x(not iterable)x"));
  EXPECT_THAT(render(R"x({{ 5 | items | list }})x"), HasSubstr(R"x(wants a mapping)x"));
  EXPECT_THAT(render(R"x({{ {} | dictsort(by='x') }})x"), HasSubstr(R"x(by 'x')x"));
  EXPECT_THAT(render(R"x({{ ([1] | select) | length }})x"), HasSubstr(R"x(has no length)x"));
}

}  // namespace
}  // namespace pleiad::text::detail
