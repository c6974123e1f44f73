#include "weights/checkpoint.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/weights/files.h"

namespace pleiad::weights {
namespace {

using ::testing::ElementsAre;
using testing::Folder;
using ::testing::HasSubstr;
using testing::safetensors_bytes;

// A file with one byte tensor [4] of this name.
std::string shard_with(std::string_view name) {
  return safetensors_bytes(
      fmt::format(R"({{"{}":{{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}}})", name), 4
  );
}

constexpr std::string_view kTwoShards =
    R"({"metadata":{"total_size":8},"weight_map":{"a":"1.safetensors","b":"2.safetensors"}})";

Error refusal(const Folder& folder) {
  const auto opened = Checkpoint::open(folder.path());
  return opened.ok() ? Error{.message = "accepted"} : opened.error();
}

TEST(Checkpoint, ReadsASingleFile) {
  const Folder folder;
  folder.write("model.safetensors", shard_with("a"));

  const auto checkpoint = Checkpoint::open(folder.path());

  ASSERT_TRUE(checkpoint.ok()) << checkpoint.error().message;
  const auto view = (*checkpoint)->tensor("a");
  ASSERT_TRUE(view.ok());
  EXPECT_THAT(view->bytes, ElementsAre(std::byte{0}, std::byte{1}, std::byte{2}, std::byte{3}));
  EXPECT_EQ((*checkpoint)->total_bytes(), 4U);
}

TEST(Checkpoint, ReadsTheShardsOfAnIndex) {
  const Folder folder;
  folder.write("model.safetensors.index.json", kTwoShards);
  folder.write("1.safetensors", shard_with("a"));
  folder.write("2.safetensors", shard_with("b"));

  const auto checkpoint = Checkpoint::open(folder.path());

  ASSERT_TRUE(checkpoint.ok()) << checkpoint.error().message;
  EXPECT_THAT((*checkpoint)->names(), ElementsAre("a", "b"));
  EXPECT_TRUE((*checkpoint)->contains("b"));
  EXPECT_FALSE((*checkpoint)->contains("c"));
  EXPECT_EQ((*checkpoint)->total_bytes(), 8U);
}

TEST(Checkpoint, NamesTheTensorOrShapeItDoesNotHave) {
  const Folder folder;
  folder.write("model.safetensors", shard_with("a"));
  const auto checkpoint = Checkpoint::open(folder.path()).value();

  const auto missing = checkpoint->tensor("b");
  const auto other = checkpoint->tensor("a", {.extents = {2, 2}, .rank = 2});
  const auto same = checkpoint->tensor("a", {.extents = {4}, .rank = 1});

  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().kind, ErrorKind::NotFound);
  EXPECT_THAT(missing.error().message, HasSubstr("no tensor b"));
  ASSERT_FALSE(other.ok());
  EXPECT_EQ(other.error().kind, ErrorKind::Corrupt);
  EXPECT_THAT(
      other.error().message, HasSubstr("tensor a has shape [4], the configuration asks for [2, 2]")
  );
  EXPECT_TRUE(same.ok());
}

TEST(Checkpoint, SaysSoWhenThereAreNoWeights) {
  const Folder folder;

  EXPECT_EQ(refusal(folder).kind, ErrorKind::NotFound);
  EXPECT_THAT(refusal(folder).message, HasSubstr("neither model.safetensors nor"));
}

TEST(Checkpoint, FindsTheFilesThatAscendsToolsWrite) {
  const Folder folder;
  folder.write("quant_model_weight_w8a8.safetensors", shard_with("a"));
  EXPECT_TRUE(Checkpoint::open(folder.path()).value()->contains("a"));

  folder.write("quant_model_weights-00002.safetensors", shard_with("b"));
  EXPECT_EQ(refusal(folder).kind, ErrorKind::InvalidInput);
  EXPECT_THAT(refusal(folder).message, HasSubstr("which weights are meant? 2 files"));

  folder.write(
      "quant_model_weights.safetensors.index.json",
      R"({"weight_map": {"b": "quant_model_weights-00002.safetensors"}})"
  );
  const auto sharded = Checkpoint::open(folder.path()).value();
  EXPECT_TRUE(sharded->contains("b"));
  EXPECT_FALSE(sharded->contains("a"));

  folder.write("model.safetensors", shard_with("c"));
  EXPECT_TRUE(Checkpoint::open(folder.path()).value()->contains("c"));
}

TEST(Checkpoint, NamesTheMissingShard) {
  const Folder folder;
  folder.write("model.safetensors.index.json", kTwoShards);
  folder.write("1.safetensors", shard_with("a"));

  EXPECT_EQ(refusal(folder).kind, ErrorKind::NotFound);
  EXPECT_THAT(refusal(folder).message, HasSubstr("2.safetensors: no such file"));
}

TEST(Checkpoint, NamesTheShardThatLacksATensor) {
  const Folder folder;
  folder.write("model.safetensors.index.json", kTwoShards);
  folder.write("1.safetensors", shard_with("a"));
  folder.write("2.safetensors", shard_with("c"));

  EXPECT_EQ(refusal(folder).kind, ErrorKind::NotFound);
  EXPECT_THAT(refusal(folder).message, HasSubstr("2.safetensors: has no tensor b"));
}

TEST(Checkpoint, RefusesATensorInTwoShards) {
  const Folder folder;
  folder.write("model.safetensors.index.json", kTwoShards);
  folder.write("1.safetensors", shard_with("a"));
  folder.write("2.safetensors", shard_with("a"));

  EXPECT_EQ(refusal(folder).kind, ErrorKind::Corrupt);
  EXPECT_THAT(refusal(folder).message, HasSubstr("tensor a is both in"));
}

TEST(Checkpoint, NamesTheTruncatedFile) {
  const Folder folder;
  const std::string whole = shard_with("a");
  for (const std::size_t size : {std::size_t{0}, std::size_t{5}, whole.size() - 1}) {
    folder.write("model.safetensors", whole.substr(0, size));

    EXPECT_EQ(refusal(folder).kind, ErrorKind::Corrupt) << size;
    EXPECT_THAT(refusal(folder).message, HasSubstr("model.safetensors: ")) << size;
  }
}

TEST(Checkpoint, RefusesAFolderInPlaceOfAFile) {
  const Folder folder;
  std::filesystem::create_directory(folder.path() / "model.safetensors");

  EXPECT_EQ(refusal(folder).kind, ErrorKind::InvalidInput);
  EXPECT_THAT(refusal(folder).message, HasSubstr("not a regular file"));
}

TEST(Checkpoint, NamesTheMalformedIndex) {
  const Folder folder;
  folder.write("model.safetensors.index.json", "{");

  EXPECT_EQ(refusal(folder).kind, ErrorKind::InvalidInput);
  EXPECT_THAT(refusal(folder).message, HasSubstr("index.json: "));
}

TEST(Checkpoint, TakesAdviceAboutWhatIsNeeded) {
  const Folder folder;
  folder.write(
      "model.safetensors",
      safetensors_bytes(R"({"a":{"dtype":"U8","shape":[20000],"data_offsets":[0,20000]}})", 20000)
  );
  const auto checkpoint = Checkpoint::open(folder.path()).value();
  const auto view = checkpoint->tensor("a").value();

  checkpoint->prefetch(view);
  checkpoint->release(view);

  for (std::size_t i = 0; i < view.bytes.size(); ++i) {
    ASSERT_EQ(view.bytes[i], static_cast<std::byte>(i));
  }
}

TEST(Checkpoint, ReadsTheBundledModel) {
  const auto checkpoint = Checkpoint::open(std::string(PLEIAD_SOURCE_DIR) + "/models/fable");

  ASSERT_TRUE(checkpoint.ok()) << checkpoint.error().message;
  const auto embedding =
      (*checkpoint)->tensor("model.embed_tokens.weight", {.extents = {4096, 256}, .rank = 2});
  ASSERT_TRUE(embedding.ok()) << embedding.error().message;
  EXPECT_GT((*checkpoint)->total_bytes(), 20'000'000U);
}

}  // namespace
}  // namespace pleiad::weights
