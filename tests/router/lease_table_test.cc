#include "router/lease_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pleiad::router {
namespace {

using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(LeaseTable, ALeaseLastsAsLongAsItIsRenewed) {
  LeaseTable leases;

  EXPECT_TRUE(leases.renew("http://a", seconds(10), seconds(0)).value()) << "a new one";
  EXPECT_FALSE(leases.renew("http://a", seconds(10), seconds(8)).value());

  EXPECT_THAT(leases.over(seconds(17)), IsEmpty());
  EXPECT_EQ(leases.left("http://a", seconds(17)), seconds(1));
  EXPECT_THAT(leases.over(seconds(18)), ElementsAre("http://a"));
  EXPECT_EQ(leases.left("http://a", seconds(30)), seconds(0));
  EXPECT_FALSE(leases.renew("http://a", seconds(10), seconds(40)).value()) << "it is back";
  EXPECT_THAT(leases.over(seconds(41)), IsEmpty());
}

TEST(LeaseTable, WhoeverGoesGivesItUp) {
  LeaseTable leases;
  leases.give_up("http://a", seconds(1));
  EXPECT_FALSE(leases.has("http://a"));
  EXPECT_TRUE(leases.renew("http://a", seconds(10), seconds(0)).ok());

  leases.give_up("http://a", seconds(1));

  EXPECT_THAT(leases.over(seconds(1)), ElementsAre("http://a"));
  leases.forget("http://a");
  EXPECT_EQ(leases.size(), 0U);
}

TEST(LeaseTable, WhomAnOperatorRemovedDoesNotComeBackByItself) {
  LeaseTable leases;
  leases.ban("http://a");

  const auto back = leases.renew("http://a", seconds(10), seconds(0));
  ASSERT_FALSE(back.ok());
  EXPECT_EQ(back.error().kind, ErrorKind::Unsupported);
  EXPECT_THAT(back.error().message, HasSubstr("POST /workers"));
  leases.lift_ban("http://a");
  EXPECT_TRUE(leases.renew("http://a", seconds(10), seconds(0)).ok());
}

TEST(LeaseTable, KeepsNoMoreThanItMay) {
  LeaseTable leases({.leases_max = 1, .banned_max = 1});
  EXPECT_TRUE(leases.renew("http://a", seconds(10), seconds(0)).ok());
  EXPECT_EQ(leases.renew("http://b", seconds(10), seconds(0)).error().kind, ErrorKind::Exhausted);
  EXPECT_TRUE(leases.renew("http://a", seconds(10), seconds(0)).ok());
  leases.ban("http://c");
  leases.ban("http://c");
  leases.ban("http://d");
  leases.forget("http://a");
  EXPECT_TRUE(leases.renew("http://c", seconds(10), seconds(0)).ok()) << "the oldest word is lost";
}

}  // namespace
}  // namespace pleiad::router
