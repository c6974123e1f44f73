#include "net/event_loop.h"

#include <memory>
#include <string>
#include <thread>
#include <utility>

#include <gtest/gtest.h>

namespace pleiad::net {
namespace {

using std::chrono::milliseconds;

TEST(EventLoop, RunsWhatOtherThreadsPostInTheirOrder) {
  EventLoop loop;
  std::string order;
  std::thread poster([&] {
    auto owned = std::make_unique<std::string>("a");
    loop.post([&order, owned = std::move(owned)] { order += *owned; });
    loop.post([&] { order += "b"; });
    loop.post([&] { loop.stop(); });
  });

  loop.run();
  poster.join();

  EXPECT_EQ(order, "ab");
}

TEST(EventLoop, KnowsItsThread) {
  EventLoop loop;
  bool inside = false;
  loop.post([&] {
    inside = loop.on_loop_thread();
    loop.stop();
  });

  loop.run();

  EXPECT_TRUE(inside);
  EXPECT_FALSE(loop.on_loop_thread());
}

TEST(EventLoop, CallsTimersInTheOrderOfTheirDelays) {
  EventLoop loop;
  std::string order;
  const Timer late = loop.after(milliseconds{20}, [&] {
    order += "late";
    loop.stop();
  });
  const Timer early = loop.after(milliseconds{1}, [&] { order += "early "; });

  loop.run();

  EXPECT_EQ(order, "early late");
}

TEST(EventLoop, ForgetsTimersThatAreCancelledDestroyedOrReplaced) {
  EventLoop loop;
  int calls = 0;
  Timer cancelled = loop.after(milliseconds{1}, [&] { ++calls; });
  cancelled.cancel();
  {
    const Timer destroyed = loop.after(milliseconds{1}, [&] { ++calls; });
  }
  Timer replaced = loop.after(milliseconds{1}, [&] { ++calls; });
  replaced = loop.after(milliseconds{10}, [&] { loop.stop(); });

  loop.run();

  EXPECT_EQ(calls, 0);
}

TEST(EventLoop, StopsBeforeItRan) {
  EventLoop loop;
  loop.stop();

  loop.run();
}

}  // namespace
}  // namespace pleiad::net
