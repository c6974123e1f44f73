#include "weights/open_file.h"

#include <utility>

#include <gtest/gtest.h>

#include "tests/weights/files.h"

namespace pleiad::weights {
namespace {

using testing::Folder;

TEST(OpenFile, KnowsItsSizeAndHandsOverItsDescriptor) {
  const Folder folder;
  folder.write("a", "12345");

  OpenFile file = OpenFile::open(folder.path() / "a").value();
  const OpenFile moved = std::move(file);

  EXPECT_GE(moved.descriptor(), 0);
  EXPECT_EQ(moved.size(), 5U);
}

TEST(OpenFile, NamesWhatIsNoRegularFile) {
  const Folder folder;

  const auto missing = OpenFile::open(folder.path() / "none");
  const auto directory = OpenFile::open(folder.path());

  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().kind, ErrorKind::NotFound);
  EXPECT_NE(missing.error().message.find("none: no such file"), std::string::npos);
  ASSERT_FALSE(directory.ok());
  EXPECT_EQ(directory.error().kind, ErrorKind::InvalidInput);
}

}  // namespace
}  // namespace pleiad::weights
