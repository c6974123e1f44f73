#include "device/thread_pool.h"

#include <array>
#include <atomic>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

namespace pleiad::device {
namespace {

class ThreadPoolOf : public ::testing::TestWithParam<int> {};

TEST_P(ThreadPoolOf, CallsEveryIndexOnce) {
  ThreadPool pool(GetParam());
  EXPECT_EQ(pool.workers(), GetParam());
  for (const std::size_t count : {0U, 1U, 2U, 3U, 64U, 1000U}) {
    std::vector<std::atomic<int>> calls(count);
    pool.parallel_for(count, [&](std::size_t index) { ++calls[index]; });
    for (const auto& times : calls) {
      ASSERT_EQ(times.load(), 1);
    }
  }
}

TEST_P(ThreadPoolOf, RunsManyShortLoopsInARow) {
  ThreadPool pool(GetParam());
  std::array<std::uint64_t, 5> sums{};
  for (std::uint64_t loop = 0; loop < 1000; ++loop) {
    pool.parallel_for(sums.size(), [&](std::size_t index) { sums[index] += loop; });
  }
  for (const std::uint64_t sum : sums) {
    EXPECT_EQ(sum, 999U * 1000U / 2);
  }
}

// With no spinning at all the others sleep between any two loops.
TEST_P(ThreadPoolOf, WakesWorkersThatSleep) {
  ThreadPool pool(GetParam(), 0);
  std::vector<int> calls(100);
  for (int loop = 0; loop < 500; ++loop) {
    pool.parallel_for(calls.size(), [&](std::size_t index) { ++calls[index]; });
  }
  for (const int times : calls) {
    EXPECT_EQ(times, 500);
  }
}

TEST_P(ThreadPoolOf, ShowsTheCallerWhatTheWorkersWrote) {
  ThreadPool pool(GetParam());
  std::vector<std::size_t> squares(4096);

  pool.parallel_for(squares.size(), [&](std::size_t index) { squares[index] = index * index; });

  for (std::size_t i = 0; i < squares.size(); ++i) {
    ASSERT_EQ(squares[i], i * i);
  }
}

TEST_P(ThreadPoolOf, StopsWithoutEverWorking) {
  for (int round = 0; round < 20; ++round) {
    const ThreadPool pool(GetParam());
  }
}

INSTANTIATE_TEST_SUITE_P(Workers, ThreadPoolOf, ::testing::Values(1, 2, 3, 4));

TEST(ThreadPoolDeathTest, NeedsAWorker) {
  EXPECT_DEATH(ThreadPool(0), "workers >= 1");
}

}  // namespace
}  // namespace pleiad::device
