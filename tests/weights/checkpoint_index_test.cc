#include "weights/checkpoint_index.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pleiad::weights {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(CheckpointIndex, ListsEachShardOnce) {
  const auto index = parse_checkpoint_index(
      R"({"metadata":{},"weight_map":{"x":"b.safetensors","y":"a.safetensors","z":"b.safetensors"}})"
  );

  ASSERT_TRUE(index.ok()) << index.error().message;
  EXPECT_THAT(index->shards, ElementsAre("a.safetensors", "b.safetensors"));
  EXPECT_EQ(index->shard_of.size(), 3U);
}

TEST(CheckpointIndex, RefusesNamesThatLeaveTheFolder) {
  for (const std::string name :
       {"../x.safetensors",
        "/etc/x.safetensors",
        "sub/x.safetensors",
        R"(sub\\x.safetensors)",
        ".safetensors",
        ".hidden.safetensors",
        "x.bin",
        "",
        R"(a\u0000.safetensors)",
        R"(a\n.safetensors)"}) {
    const auto index =
        parse_checkpoint_index(fmt::format(R"({{"weight_map":{{"t":"{}"}}}})", name));
    ASSERT_FALSE(index.ok()) << name;
    EXPECT_EQ(index.error().kind, ErrorKind::InvalidInput);
    EXPECT_THAT(index.error().message, HasSubstr("no name of a .safetensors file"));
  }
}

TEST(CheckpointIndex, RefusesAnythingThatIsNoMapOfNames) {
  for (const std::string text :
       {"",
        "[]",
        "{}",
        R"({"weight_map":[]})",
        R"({"weight_map":{}})",
        R"({"weight_map":{"a":1}})"}) {
    EXPECT_FALSE(parse_checkpoint_index(text).ok()) << text;
  }
}

}  // namespace
}  // namespace pleiad::weights
