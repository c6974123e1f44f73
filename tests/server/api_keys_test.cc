#include "server/api_keys.h"

#include <gtest/gtest.h>

namespace pleiad::server {
namespace {

TEST(ApiKeys, WithoutKeysEverybodyMayComeIn) {
  EXPECT_TRUE(ApiKeys().open_to_all());
  EXPECT_TRUE(ApiKeys().admits(""));
  EXPECT_TRUE(ApiKeys().admits("Bearer anything"));
}

TEST(ApiKeys, TakeAKeyWithAndWithoutItsScheme) {
  const ApiKeys keys({"sk-one", "sk-two"});

  for (const char* header :
       {"sk-one", "sk-two", "Bearer sk-one", "bearer sk-two", "BEARER  sk-one"}) {
    EXPECT_TRUE(keys.admits(header)) << header;
  }
}

TEST(ApiKeys, RefuseWhatIsNotExactlyAKey) {
  const ApiKeys keys({"sk-one", "sk-two"});

  for (const char* header :
       {"",
        "Bearer",
        "Bearer ",
        "Bearer  ",
        "sk",
        "sk-on",
        "sk-onee",
        "sk-onesk-one",
        "SK-ONE",
        "Basic sk-one",
        "Bearer Bearer sk-one",
        "Bearer sk-one ",
        "sk-one,sk-two",
        "Bearersk-one"}) {
    EXPECT_FALSE(keys.admits(header)) << header;
  }
}

TEST(ApiKeys, TellWhoseKeyItWas) {
  ApiKeys keys({"sk-one", "sk-two"});
  keys.add("team-a", sha256("sk-old"));
  keys.add("team-a", sha256("sk-new"));

  EXPECT_EQ(keys.identify("Bearer sk-two"), "api-key-2");
  EXPECT_EQ(keys.identify("sk-old"), "team-a");
  EXPECT_EQ(keys.identify("Bearer sk-new"), "team-a");
  EXPECT_FALSE(keys.identify("team-a").has_value());
  EXPECT_EQ(ApiKeys().identify("anything"), "");
}

}  // namespace
}  // namespace pleiad::server
