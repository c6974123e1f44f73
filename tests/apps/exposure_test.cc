#include "apps/exposure.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pleiad::apps {
namespace {

using ::testing::HasSubstr;

TEST(Exposure, BeyondLoopbackAKeyOrAWishIsNeeded) {
  EXPECT_TRUE(check_exposure({.host = "127.0.0.1"}).ok());
  EXPECT_TRUE(check_exposure({.host = "localhost"}).ok());
  EXPECT_TRUE(check_exposure({.host = "::1"}).ok());
  EXPECT_THAT(check_exposure({.host = "0.0.0.0"}).error().message, HasSubstr("--api-key"));
  EXPECT_TRUE(check_exposure({.host = "0.0.0.0", .api_keys = {"k"}}).ok());
  EXPECT_TRUE(check_exposure({.host = "0.0.0.0", .more_keys = true}).ok());
  EXPECT_TRUE(check_exposure({.host = "0.0.0.0", .allow_unauthenticated = true}).ok());
  EXPECT_THAT(
      check_exposure({.host = "localhost", .api_keys = {""}}).error().message,
      HasSubstr("must not be empty")
  );
}

TEST(Exposure, AnyAddressIsCalledLoopback) {
  EXPECT_EQ(listening_url("0.0.0.0", 80), "http://127.0.0.1:80");
  EXPECT_EQ(listening_url("10.1.2.3", 80), "http://10.1.2.3:80");
}

}  // namespace
}  // namespace pleiad::apps
