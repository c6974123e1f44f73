#include "apps/secrets.h"

#include <cstdlib>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/weights/files.h"

namespace pleiad::apps {
namespace {

using ::testing::ElementsAre;

TEST(Secrets, TheSecretIsTheFilesElseTheEnvironments) {
  const weights::testing::Folder folder;
  folder.write("secret", "from a file \n\n");
  ::setenv("PLEIAD_CLUSTER_SECRET", "from outside", 1);
  EXPECT_EQ(read_cluster_secret((folder.path() / "secret").string()).value(), "from a file");
  EXPECT_EQ(read_cluster_secret("").value(), "from outside");
  ::unsetenv("PLEIAD_CLUSTER_SECRET");
  EXPECT_EQ(read_cluster_secret("").value(), "");
  EXPECT_FALSE(read_cluster_secret((folder.path() / "none").string()).ok());
}

TEST(Secrets, KeysComeOneALine) {
  const weights::testing::Folder folder;
  folder.write("keys", "one\r\n\n  \ntwo ");
  std::vector<std::string> keys = {"given"};
  ::setenv("PLEIAD_API_KEY", "outside", 1);
  ASSERT_TRUE(read_api_keys((folder.path() / "keys").string(), keys).ok());
  ::unsetenv("PLEIAD_API_KEY");

  EXPECT_THAT(keys, ElementsAre("given", "outside", "one", "two"));
}

TEST(Secrets, AdminKeysAreKeysOfTheirOwn) {
  const weights::testing::Folder folder;
  folder.write("keys", "root\n");
  std::vector<std::string> keys;
  ::setenv("PLEIAD_ADMIN_KEY", "outside", 1);
  ASSERT_TRUE(read_admin_keys((folder.path() / "keys").string(), keys).ok());
  ::unsetenv("PLEIAD_ADMIN_KEY");

  EXPECT_THAT(keys, ElementsAre("outside", "root"));
  EXPECT_FALSE(read_admin_keys((folder.path() / "none").string(), keys).ok());
}

}  // namespace
}  // namespace pleiad::apps
