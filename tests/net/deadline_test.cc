#include "net/detail/deadline.h"

#include <memory>

#include <gtest/gtest.h>

namespace pleiad::net {
namespace {

using std::chrono::milliseconds;

TEST(Deadline, PassesAtTheLastMomentItWasSetTo) {
  EventLoop loop;
  const auto owner = std::make_shared<int>(0);
  const auto start = std::chrono::steady_clock::now();
  Deadline deadline(loop, [&] { loop.stop(); });
  deadline.belong_to(owner);

  deadline.set(milliseconds{1});
  deadline.set(std::chrono::hours{1});
  deadline.set(milliseconds{20});
  loop.run();

  EXPECT_GE(std::chrono::steady_clock::now() - start, milliseconds{20});
}

TEST(Deadline, DoesNotPassOnceClearedDestroyedOrWithoutItsOwner) {
  EventLoop loop;
  int passed = 0;
  auto owner = std::make_shared<int>(0);
  Deadline cleared(loop, [&] { ++passed; });
  Deadline orphan(loop, [&] { ++passed; });
  orphan.belong_to(owner);
  {
    Deadline destroyed(loop, [&] { ++passed; });
    destroyed.belong_to(owner);
    destroyed.set(milliseconds{1});
  }
  cleared.belong_to(owner);

  cleared.set(milliseconds{1});
  cleared.clear();
  orphan.set(milliseconds{1});
  owner.reset();
  const Timer stop = loop.after(milliseconds{10}, [&] { loop.stop(); });
  loop.run();

  EXPECT_EQ(passed, 0);
}

}  // namespace
}  // namespace pleiad::net
