#include "weights/read_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "tests/weights/files.h"

namespace pleiad::weights {
namespace {

using testing::Folder;
using ::testing::HasSubstr;

TEST(ReadTextFile, ReturnsTheWholeContent) {
  const Folder folder;
  folder.write("a.json", std::string("{}\0x", 4));
  folder.write("empty", "");

  EXPECT_EQ(read_text_file(folder.path() / "a.json", 4).value(), std::string("{}\0x", 4));
  EXPECT_EQ(read_text_file(folder.path() / "empty", 0).value(), "");
}

TEST(ReadTextFile, RefusesMoreThanTheLimit) {
  const Folder folder;
  folder.write("a", "12345");

  const auto text = read_text_file(folder.path() / "a", 4);

  ASSERT_FALSE(text.ok());
  EXPECT_EQ(text.error().kind, ErrorKind::InvalidInput);
  EXPECT_THAT(text.error().message, HasSubstr("5 bytes, at most 4"));
}

TEST(ReadTextFile, RefusesWhatIsNoRegularFileWithoutBlocking) {
  const Folder folder;
  ASSERT_EQ(mkfifo((folder.path() / "pipe").c_str(), 0600), 0);

  EXPECT_EQ(read_text_file(folder.path() / "none", 9).error().kind, ErrorKind::NotFound);
  EXPECT_EQ(read_text_file(folder.path(), 9).error().kind, ErrorKind::InvalidInput);
  EXPECT_EQ(read_text_file(folder.path() / "pipe", 9).error().kind, ErrorKind::InvalidInput);
}

}  // namespace
}  // namespace pleiad::weights
