#include "weights/checkpoint_digest.h"

#include <memory>
#include <set>
#include <string>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/weights/files.h"

namespace pleiad::weights {
namespace {

using testing::Folder;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using testing::safetensors_bytes;

struct Content {
  std::string config = R"({"model_type":"deepseek_v3"})";
  std::string name = "a";
  std::string dtype = "U8";
  std::string shape = "[8,4]";
  std::size_t changed_byte = 1000;  // of the data; 1000: none
};

// The digest of a folder with one tensor of 32 bytes.
std::string digest_of(const Folder& folder, const Content& content) {
  std::string bytes = safetensors_bytes(
      fmt::format(
          R"({{"{}":{{"dtype":"{}","shape":{},"data_offsets":[0,32]}}}})",
          content.name,
          content.dtype,
          content.shape
      ),
      32
  );
  if (content.changed_byte < 32) bytes[bytes.size() - 32 + content.changed_byte] ^= 1;
  folder.write("config.json", content.config);
  folder.write("model.safetensors", bytes);
  const auto checkpoint = Checkpoint::open(folder.path()).value();
  return checkpoint_digest(folder.path(), *checkpoint).value();
}

TEST(CheckpointDigest, IsSixteenHexadecimalDigitsThatEqualFoldersShare) {
  const Folder folder;
  const std::string digest = digest_of(folder, {});

  EXPECT_THAT(digest, MatchesRegex("[0-9a-f]{16}"));
  EXPECT_EQ(digest_of(folder, {}), digest);
}

TEST(CheckpointDigest, TellsConfigNameTypeShapeAndWeightsApart) {
  const Folder folder;
  const std::set<std::string> digests = {
      digest_of(folder, {}),
      digest_of(folder, {.config = R"({"model_type":"qwen3_moe"})"}),
      digest_of(folder, {.name = "b"}),
      digest_of(folder, {.dtype = "I8"}),
      digest_of(folder, {.shape = "[4,8]"}),
      digest_of(folder, {.shape = "[32]"}),
      digest_of(folder, {.changed_byte = 16}),
      digest_of(folder, {.changed_byte = 0}),
  };

  EXPECT_EQ(digests.size(), 8U);
}

TEST(CheckpointDigest, DoesNotDependOnHowTensorsAreSpreadOverFiles) {
  const auto tensor = [](std::string_view name, int at) {
    return fmt::format(
        R"("{}":{{"dtype":"U8","shape":[4],"data_offsets":[{},{}]}})", name, at, at + 4
    );
  };
  const Folder folder;
  folder.write("config.json", "{}");
  // Both tensors hold the bytes 0 to 3 in two files, and in one file whose data is cut to that.
  folder.write("1.safetensors", safetensors_bytes("{" + tensor("a", 0) + "}", 4));
  folder.write("2.safetensors", safetensors_bytes("{" + tensor("b", 0) + "}", 4));
  folder.write(
      "model.safetensors.index.json",
      R"({"metadata":{"total_size":8},"weight_map":{"a":"1.safetensors","b":"2.safetensors"}})"
  );
  const auto sharded = Checkpoint::open(folder.path()).value();
  const std::string expected = checkpoint_digest(folder.path(), *sharded).value();
  std::filesystem::remove(folder.path() / "model.safetensors.index.json");
  std::string whole = safetensors_bytes("{" + tensor("a", 0) + "," + tensor("b", 4) + "}", 4);
  whole += whole.substr(whole.size() - 4);
  folder.write("model.safetensors", whole);

  const auto single = Checkpoint::open(folder.path()).value();

  EXPECT_EQ(checkpoint_digest(folder.path(), *single).value(), expected);
}

TEST(CheckpointDigest, NamesTheConfigThatIsMissing) {
  const Folder folder;
  const auto digest = checkpoint_digest(folder.path(), Checkpoint());

  ASSERT_FALSE(digest.ok());
  EXPECT_THAT(digest.error().message, HasSubstr("config.json"));
}

TEST(CheckpointDigest, ACheckpointWithoutTensorsHasTheDigestOfItsConfig) {
  const Folder folder;
  folder.write("config.json", "{}");
  const std::string digest = checkpoint_digest(folder.path(), Checkpoint()).value();
  folder.write("config.json", "{ }");

  EXPECT_NE(checkpoint_digest(folder.path(), Checkpoint()).value(), digest);
}

}  // namespace
}  // namespace pleiad::weights
