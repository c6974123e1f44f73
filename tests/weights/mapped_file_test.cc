#include "weights/mapped_file.h"

#include <utility>

#include <gtest/gtest.h>

#include "tests/weights/files.h"

namespace pleiad::weights {
namespace {

using testing::Folder;

TEST(MappedFile, ShowsTheBytesOfAFile) {
  const Folder folder;
  folder.write("a", "bytes");

  MappedFile file = MappedFile::open(folder.path() / "a").value();
  const MappedFile moved = std::move(file);

  ASSERT_EQ(moved.bytes().size(), 5U);
  EXPECT_EQ(moved.bytes()[4], std::byte{'s'});
}

TEST(MappedFile, MapsNothingForAnEmptyFile) {
  const Folder folder;
  folder.write("a", "");

  EXPECT_TRUE(MappedFile::open(folder.path() / "a").value().bytes().empty());
}

TEST(MappedFile, NamesTheFileThatIsNotThere) {
  const Folder folder;

  EXPECT_EQ(MappedFile::open(folder.path() / "none").error().kind, ErrorKind::NotFound);
  EXPECT_EQ(MappedFile::open(folder.path()).error().kind, ErrorKind::InvalidInput);
}

TEST(MappedFile, TakesAdviceOnAnyPart) {
  const Folder folder;
  folder.write("a", std::string(10000, 'x'));
  const MappedFile file = MappedFile::open(folder.path() / "a").value();

  for (const std::size_t begin : {0U, 1U, 4095U, 4096U, 9999U}) {
    advise_needed(file.bytes().subspan(begin));
    advise_unneeded(file.bytes().subspan(begin));
  }
  advise_needed({});
  advise_unneeded({});

  EXPECT_EQ(file.bytes()[9999], std::byte{'x'});
}

}  // namespace
}  // namespace pleiad::weights
