#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "text/detail/jinja_interpreter.h"

namespace pleiad::text::detail {
namespace {

using ::testing::HasSubstr;

TEST(JinjaDate, FormatsWithoutALocale) {
  using namespace std::chrono;
  const sys_seconds date =
      sys_days(year(2024) / February / 29) + hours(13) + minutes(5) + seconds(9);

  EXPECT_EQ(*format_date("%Y-%m-%d %H:%M:%S", date), "2024-02-29 13:05:09");
  EXPECT_EQ(*format_date("%d %b %Y, %A %I %p day %j", date), "29 Feb 2024, Thursday 01 PM day 060");
  EXPECT_EQ(*format_date("%-m/%e 100%%", date), "2/29 100%");
}

TEST(JinjaDate, RefusesOtherConversionsByName) {
  EXPECT_THAT(format_date("%c", {}).error().message, HasSubstr("%c"));
  EXPECT_FALSE(format_date("%", {}).ok());
  EXPECT_FALSE(format_date("%-", {}).ok());
}

}  // namespace
}  // namespace pleiad::text::detail
