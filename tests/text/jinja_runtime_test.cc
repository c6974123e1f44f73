#include "text/detail/jinja_runtime.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pleiad::text::detail {
namespace {

using ::testing::HasSubstr;

TEST(JinjaRuntime, RefusesWorkOnceTheBudgetIsSpent) {
  Runtime runtime(100, {});

  EXPECT_TRUE(runtime.spend(100).ok());
  EXPECT_EQ(runtime.spend(1).error().kind, ErrorKind::InvalidInput);
}

TEST(JinjaRuntime, BindsArgumentsByPlaceAndName) {
  const Arguments arguments{{Value(std::int64_t{1})}, {{"c", Value(true)}}};

  const auto bound = bind(arguments, "f", {"a", "b", "c"}, 1);

  EXPECT_EQ(*(*bound)[0]->get<std::int64_t>(), 1);
  EXPECT_EQ((*bound)[1], nullptr);
  EXPECT_TRUE(*(*bound)[2]->get<bool>());
}

TEST(JinjaRuntime, RefusesArgumentsThatDoNotFit) {
  const Arguments one{{Value(true)}, {}};
  const Arguments named{{}, {{"z", Value(true)}}};
  const Arguments twice{{Value(true)}, {{"a", Value(true)}}};

  EXPECT_THAT(bind(one, "f", {}).error().message, HasSubstr("at most 0"));
  EXPECT_THAT(bind(named, "f", {"a"}).error().message, HasSubstr("no argument 'z'"));
  EXPECT_THAT(bind(twice, "f", {"a"}).error().message, HasSubstr("twice"));
  EXPECT_THAT(bind({}, "f", {"a"}, 1).error().message, HasSubstr("needs the argument 'a'"));
}

}  // namespace
}  // namespace pleiad::text::detail
