#include "weights/safetensors_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/weights/files.h"
#include "weights/checkpoint.h"

namespace pleiad::weights {
namespace {

using ::testing::HasSubstr;

std::vector<TensorPlan> plans() {
  return {
      {"b", device::DType::I8, {.extents = {2, 3}, .rank = 2}},
      {"a", device::DType::F32, {.extents = {2}, .rank = 1}},
  };
}

std::vector<std::byte> counting(std::size_t count) {
  std::vector<std::byte> bytes(count);
  for (std::size_t i = 0; i < count; ++i) {
    bytes[i] = static_cast<std::byte>(i);
  }
  return bytes;
}

TEST(SafetensorsWriter, WritesWhatACheckpointReads) {
  const testing::Folder folder;
  const auto path = folder.path() / "model.safetensors";
  auto writer = SafetensorsWriter::create(path, plans()).value();
  const auto bytes = counting(14);

  EXPECT_TRUE(writer.append(std::span(bytes).first(5)).ok());
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_TRUE(writer.append(std::span(bytes).subspan(5)).ok());
  EXPECT_TRUE(writer.finish().ok());

  const auto checkpoint = Checkpoint::open(folder.path()).value();
  const auto b = checkpoint->tensor("b", {.extents = {2, 3}, .rank = 2}).value();
  EXPECT_EQ(b.dtype, device::DType::I8);
  EXPECT_EQ(b.bytes[5], std::byte{5});
  const auto a = checkpoint->tensor("a").value();
  EXPECT_EQ(a.bytes[0], std::byte{6});
  EXPECT_FALSE(std::filesystem::exists(path.string() + ".part"));
}

TEST(SafetensorsWriter, TakesNeitherTooMuchNorTooLittle) {
  const testing::Folder folder;
  auto writer = SafetensorsWriter::create(folder.path() / "m.safetensors", plans()).value();
  EXPECT_THAT(writer.append(counting(15)).error().message, HasSubstr("more bytes than planned"));
  EXPECT_TRUE(writer.append(counting(13)).ok());
  EXPECT_THAT(writer.finish().error().message, HasSubstr("1 bytes are missing"));
}

TEST(SafetensorsWriter, NamesAPathThatCannotBeWritten) {
  const auto writer = SafetensorsWriter::create("/nonexistent/m.safetensors", plans());
  ASSERT_FALSE(writer.ok());
  EXPECT_THAT(writer.error().message, HasSubstr("/nonexistent/m.safetensors.part"));
}

TEST(HoldsTensors, OnlyAWholeFileOfExactlyThese) {
  const testing::Folder folder;
  const auto path = folder.path() / "m.safetensors";
  EXPECT_FALSE(holds_tensors(path, plans()));
  auto writer = SafetensorsWriter::create(path, plans()).value();
  ASSERT_TRUE(writer.append(counting(14)).ok() && writer.finish().ok());

  EXPECT_TRUE(holds_tensors(path, plans()));
  auto other = plans();
  other[0].dtype = device::DType::U8;
  EXPECT_FALSE(holds_tensors(path, other));
  other = plans();
  other.pop_back();
  EXPECT_FALSE(holds_tensors(path, other));
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 1);
  EXPECT_FALSE(holds_tensors(path, plans()));
}

}  // namespace
}  // namespace pleiad::weights
