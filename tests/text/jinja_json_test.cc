#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/text/render.h"
#include "text/detail/jinja_format.h"

namespace pleiad::text::detail {
namespace {

using ::testing::HasSubstr;

TEST(JinjaJson, LaysOutAsPythonDoes) {
  EXPECT_EQ(
      render(R"x({{ {'a': [1, 2.0], 'b': {}} | tojson }})x"), R"x({"a": [1, 2.0], "b": {}})x"
  );
  EXPECT_EQ(render(R"x({{ {'a': [1]} | tojson(indent=1) }})x"), R"x({
 "a": [
  1
 ]
})x");
  EXPECT_EQ(
      render(R"x({{ {'b': 1, 'a': 2} | tojson(sort_keys=true, separators=(',', ':')) }})x"),
      R"x({"a":2,"b":1})x"
  );
  EXPECT_EQ(render(R"x({{ 'é🐉' | tojson(ensure_ascii=true) }})x"), R"x("\u00e9\ud83d\udc09")x");
}

TEST(JinjaJson, RefusesWhatHasNoJson) {
  EXPECT_THAT(render(R"x({{ missing | tojson }})x"), HasSubstr(R"x(has no JSON form)x"));
  EXPECT_THAT(render(R"x({{ range | tojson }})x"), HasSubstr(R"x(has no JSON form)x"));
  EXPECT_THAT(render(R"x({{ {(1,): 2} | tojson }})x"), HasSubstr(R"x(key of type tuple)x"));
  EXPECT_THAT(render(R"x({{ [1] | tojson(indent=9999) }})x"), HasSubstr(R"x(at most 100)x"));
}

}  // namespace
}  // namespace pleiad::text::detail
