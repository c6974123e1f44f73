#include "text/detail/jinja_parser.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pleiad::text::detail {
namespace {

using ::testing::HasSubstr;

std::string refusal(std::string_view source) {
  const auto parsed = parse_template(source);
  return parsed.ok() ? "accepted" : parsed.error().message;
}

TEST(JinjaParser, BuildsOneStatementForEachTag) {
  const auto parsed = parse_template("a{{ b }}{% if c %}d{% else %}e{% endif %}");

  ASSERT_EQ(parsed->body.size(), 3U);
  EXPECT_EQ(parsed->body[2]->kind, StatementKind::If);
  EXPECT_EQ(parsed->body[2]->branches.size(), 1U);
  EXPECT_EQ(parsed->names, (std::vector<std::string>{"b", "c"}));
}

TEST(JinjaParser, RefusesTagsByName) {
  EXPECT_THAT(refusal("x\n{% do x %}"), HasSubstr("line 2: tag 'do'"));
  EXPECT_THAT(refusal("{% block x %}"), HasSubstr("tag 'block'"));
  EXPECT_THAT(refusal("{% for a in b recursive %}{% endfor %}"), HasSubstr("recursive"));
  EXPECT_THAT(refusal("{% autoescape true %}"), HasSubstr("autoescape"));
}

TEST(JinjaParser, RefusesTagsThatDoNotMatch) {
  EXPECT_THAT(refusal("{% endif %}"), HasSubstr("nothing to end"));
  EXPECT_THAT(refusal("{% for a in b %}"), HasSubstr("template ends"));
  EXPECT_THAT(refusal("{% break %}"), HasSubstr("outside a loop"));
  EXPECT_THAT(
      refusal("{% for a in b %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}"),
      HasSubstr("outside a loop")
  );
  EXPECT_THAT(refusal("{% set true = 1 %}"), HasSubstr("cannot assign"));
  EXPECT_THAT(refusal("{% call x %}{% endcall %}"), HasSubstr("expected a call"));
}

}  // namespace
}  // namespace pleiad::text::detail
