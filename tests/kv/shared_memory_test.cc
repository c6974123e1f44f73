#include "kv/shared_memory.h"

#include <csignal>
#include <cstring>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

namespace pleiad::kv {
namespace {

using testing::HasSubstr;

TEST(SharedMemory, IsReadByWhoeverHasItsName) {
  const auto shared = SharedMemory::allocate(10'000).value();
  std::memcpy(shared->data() + 9'990, "the end...", 10);

  const auto mapped = MappedMemory::open(shared->name());

  ASSERT_TRUE(mapped.ok()) << mapped.error().message;
  ASSERT_EQ((*mapped)->bytes().size(), 10'000U);
  EXPECT_EQ(std::memcmp((*mapped)->bytes().data() + 9'990, "the end...", 10), 0);
  EXPECT_EQ((*mapped)->bytes()[0], std::byte{0});
  shared->data()[0] = std::byte{7};
  EXPECT_EQ((*mapped)->bytes()[0], std::byte{7});
}

TEST(SharedMemory, OutlivesAProcessThatIsKilled) {
  int told[2];
  ASSERT_EQ(pipe(told), 0);
  const pid_t child = fork();
  if (child == 0) {
    auto shared = SharedMemory::allocate(4096);
    shared.value()->data()[1] = std::byte{42};
    const SharedName& name = shared.value()->name();
    const std::string text = name.token;
    const auto file = static_cast<std::int32_t>(name.file);
    if (write(told[1], &file, sizeof file) < 0 || write(told[1], text.data(), 32) < 0) _exit(1);
    pause();
  }
  SharedName name{
      .machine = machine_name(), .process = child, .bytes = 4096, .token = std::string(32, ' ')};
  std::int32_t file = 0;
  ASSERT_EQ(read(told[0], &file, sizeof file), 4);
  ASSERT_EQ(read(told[0], name.token.data(), 32), 32);
  name.file = file;
  auto mapped = MappedMemory::open(name);
  ASSERT_TRUE(mapped.ok()) << mapped.error().message;
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  EXPECT_EQ((*mapped)->bytes()[1], std::byte{42});
  EXPECT_THAT(MappedMemory::open(name).error().message, HasSubstr("No such file"));
  close(told[0]);
  close(told[1]);
}

TEST(MappedMemory, RefusesWhatIsNotWhatWasNamed) {
  const auto shared = SharedMemory::allocate(4096).value();
  const auto other = SharedMemory::allocate(4096).value();
  const auto refusal = [](SharedName name) { return MappedMemory::open(name).error().message; };

  SharedName name = shared->name();
  name.token = other->name().token;
  EXPECT_THAT(refusal(name), HasSubstr("not the memory that was named"));
  name = shared->name();
  name.bytes = 8192;
  EXPECT_THAT(refusal(name), HasSubstr("not the memory that was named"));
  name = shared->name();
  name.file = STDIN_FILENO;
  EXPECT_FALSE(refusal(name).empty());
  name = shared->name();
  name.machine = "elsewhere";
  EXPECT_THAT(refusal(name), HasSubstr("another machine"));
  name = shared->name();
  name.token = "short";
  EXPECT_THAT(refusal(name), HasSubstr("not named well"));
}

}  // namespace
}  // namespace pleiad::kv
