// Every transport keeps the same promises.
// Also tests: local_group.cc, local_mailbox.cc, ucx_group.cc
#include "comm/group.h"

#include <csignal>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/clock.h"
#include "base/random.h"
#include "tests/comm/group_conformance.h"
#include "tests/comm/rank_runner.h"

namespace pleiad::comm {
namespace {

using std::chrono::milliseconds;
using testing::Each;
using testing::HasSubstr;
using testing::IsEmpty;

class GroupTest : public testing::TestWithParam<Transport> {
 protected:
  [[nodiscard]] std::vector<std::string> run(Rank size, const RankBody& body) const {
    return run_ranks({.transport = GetParam(), .size = size}, body);
  }
  // With a limit that is meant to pass.
  [[nodiscard]] std::vector<std::string> run_briefly(Rank size, const RankBody& body) const {
    return run_ranks({.transport = GetParam(), .size = size, .limit = kBrief}, body);
  }
  static std::uint64_t fresh_seed() {
    const std::uint64_t seed = entropy_seed();
    testing::Test::RecordProperty("seed", std::to_string(seed));
    fmt::print("seed {}\n", seed);
    return seed;
  }

  static constexpr milliseconds kBrief{300};
};

constexpr Rank kSizes[] = {1, 2, 3, 4, 8};

TEST_P(GroupTest, KeepsItsCollectivesPromises) {
  const std::uint64_t seed = fresh_seed();
  for (const Rank size : kSizes) {
    EXPECT_THAT(
        run(size, [&](Group& group, Findings& f) { collectives_hold(group, seed, f); }),
        Each(IsEmpty())
    ) << size
      << " ranks";
  }
}

TEST_P(GroupTest, CarriesLargeMessages) {
  for (const Rank size : {2, 3}) {
    EXPECT_THAT(
        run(size, [](Group& group, Findings& f) { large_messages_arrive(group, 8U << 20U, f); }),
        Each(IsEmpty())
    );
  }
}

TEST_P(GroupTest, KeepsTheOrderOfInterleavedLanes) {
  const std::uint64_t seed = fresh_seed();
  for (const Rank size : {2, 3, 4, 8}) {
    EXPECT_THAT(
        run(size, [&](Group& group, Findings& f) { interleavings_arrive(group, seed, f); }),
        Each(IsEmpty())
    ) << size
      << " ranks";
  }
}

TEST_P(GroupTest, WaitsForSendsUpToAMark) {
  EXPECT_THAT(run(2, sends_are_waited_for_up_to_a_mark), Each(IsEmpty()));
}

TEST_P(GroupTest, MovesOfferedReceivesWhileItWaitsForSends) {
  EXPECT_THAT(run(4, offered_receives_let_senders_go), Each(IsEmpty()));
}

TEST_P(GroupTest, QueuesShortMessages) {
  EXPECT_THAT(run(2, short_messages_queue_up), Each(IsEmpty()));
}

TEST_P(GroupTest, SleepsUntilThereIsAMessage) {
  EXPECT_THAT(run(3, messages_wake_sleepers), Each(IsEmpty()));
}

TEST_P(GroupTest, SleepsUntilInterrupted) {
  for (const Rank size : {1, 2}) {
    EXPECT_THAT(run(size, interrupts_wake_sleepers), Each(IsEmpty()));
  }
}

TEST_P(GroupTest, WritesIntoThePeersWindows) {
  const std::uint64_t seed = fresh_seed();
  for (const Rank size : kSizes) {
    EXPECT_THAT(
        run(size, [&](Group& group, Findings& f) { puts_land(group, seed, f); }), Each(IsEmpty())
    ) << size
      << " ranks";
  }
}

TEST_P(GroupTest, CountsItsTraffic) {
  EXPECT_THAT(run(3, traffic_is_counted), Each(IsEmpty()));
}

TEST_P(GroupTest, NamesThePeerThatStallsAndTellsTheOthers) {
  const auto found = run_briefly(3, [](Group& group, Findings& f) {
    if (group.rank() == 0) {
      const auto heard = group.receive(1, {}, "dispatch of layer 3");
      f.expect_error(
          heard.ok() ? Result<void>() : heard.error(),
          ErrorKind::Timeout,
          {"dispatch of layer 3", "rank 0", "rank 1", "300 ms"}
      );
      return;
    }
    // Asleep for as long as it takes: only rank 0's word can wake these.
    const auto woken = group.wait_for_message();
    f.expect_error(
        woken.ok() ? Result<void>() : woken.error(), ErrorKind::Timeout, {"rank 0", "layer 3"}
    );
  });
  EXPECT_THAT(found, Each(IsEmpty()));
}

TEST_P(GroupTest, NamesThePeerThatDoesNotFetch) {
  const auto found = run_briefly(2, [](Group& group, Findings& f) {
    const std::vector<std::byte> large(8U << 20U);
    if (group.rank() == 0) {
      group.send(1, large);
      f.expect_error(group.wait_sends("combine"), ErrorKind::Timeout, {"combine", "rank 1"});
      return;
    }
    while (group.wait_for_message().ok()) {
    }
  });
  EXPECT_THAT(found, Each(IsEmpty()));
}

TEST_P(GroupTest, RefusesAMessageLongerThanItsBuffer) {
  for (const std::size_t bytes : {11U, 1'000U, 3'000'000U}) {
    const auto found = run(2, [&](Group& group, Findings& f) {
      std::vector<std::byte> buffer(group.rank() == 0 ? 10 : bytes);
      if (group.rank() == 1) group.send(0, buffer);
      const auto got = group.receive(1 - group.rank(), buffer, "combine");
      f.expect_error(
          got.ok() ? Result<void>() : got.error(),
          ErrorKind::Corrupt,
          {"combine", "rank 1", std::to_string(bytes), "room for 10"}
      );
    });
    EXPECT_THAT(found, Each(IsEmpty())) << bytes;
  }
}

TEST_P(GroupTest, RefusesRanksThatAreOutOfStep) {
  const auto found = run(2, [](Group& group, Findings& f) {
    const std::vector<std::byte> mine(group.rank() == 0 ? 8 : 4);
    std::vector<std::byte> all(2 * mine.size());
    const auto gathered = group.all_gather(mine, all, "sizes");
    f.expect_error(gathered, ErrorKind::Corrupt, {"sizes"});
  });
  EXPECT_THAT(found, Each(IsEmpty()));
}

TEST_P(GroupTest, StaysBrokenWithTheFirstReason) {
  const auto found = run(2, [](Group& group, Findings& f) {
    if (group.rank() == 1) {
      while (group.wait_for_message().ok()) {
      }
      return;
    }
    group.abort(unavailable("the plan changed"));
    group.abort(unavailable("a later reason"));
    group.send(1, {});
    const std::vector<std::string> words{"the plan changed"};
    f.expect_error(group.wait_sends("a"), ErrorKind::Unavailable, words);
    f.expect_error(group.barrier("b"), ErrorKind::Unavailable, words);
    f.expect_error(group.wait_puts("c"), ErrorKind::Unavailable, words);
    const auto woken = group.wait_for_message();
    f.expect_error(woken.ok() ? Result<void>() : woken.error(), ErrorKind::Unavailable, words);
  });
  EXPECT_THAT(found, Each(IsEmpty()));
}

TEST_P(GroupTest, TellsPeersThatItWasAborted) {
  const auto found = run(4, [](Group& group, Findings& f) {
    if (group.rank() == 2) {
      group.abort(error(ErrorKind::Exhausted, "no memory left"));
      return;
    }
    const std::vector<std::string> words{"rank 2", "no memory left"};
    if (group.rank() == 3) {
      const auto woken = group.wait_for_message();
      f.expect_error(woken.ok() ? Result<void>() : woken.error(), ErrorKind::Exhausted, words);
    } else {
      const auto heard = group.receive(3, {}, "combine");
      f.expect_error(heard.ok() ? Result<void>() : heard.error(), ErrorKind::Exhausted, words);
    }
  });
  EXPECT_THAT(found, Each(IsEmpty()));
}

TEST_P(GroupTest, IsAbortedByAnotherThreadWhileItWaits) {
  const auto found = run(2, [](Group& group, Findings& f) {
    // Both wait for ever for each other, until rank 0's other thread has enough of it.
    std::thread other([&] {
      if (group.rank() == 0) group.abort(error(ErrorKind::Cancelled, "shutting down"));
    });
    const auto heard = group.receive(1 - group.rank(), {}, "combine");
    other.join();
    f.expect_error(
        heard.ok() ? Result<void>() : heard.error(), ErrorKind::Cancelled, {"shutting down"}
    );
  });
  EXPECT_THAT(found, Each(IsEmpty()));
}

TEST_P(GroupTest, DeliversWhatWasSentBeforeAPeerLeft) {
  const auto found = run(2, [](Group& group, Findings& f) {
    std::vector<std::byte> bytes(100, std::byte{5});
    if (group.rank() == 0) {
      for (int i = 0; i < 10; ++i) {
        group.send(1, bytes);
      }
      f.expect(group.wait_sends("farewell"));
      return;
    }
    for (int i = 0; i < 10; ++i) {
      const auto got = group.receive(0, bytes, "farewell");
      f.expect(got.ok(), "{}", got.ok() ? "" : got.error().message);
    }
  });
  EXPECT_THAT(found, Each(IsEmpty()));
}

TEST_P(GroupTest, NamesThePeerThatLeft) {
  const auto found = run(3, [](Group& group, Findings& f) {
    if (group.rank() == 1) return;
    const auto heard = group.receive(1, {}, "dispatch");
    f.expect_error(
        heard.ok() ? Result<void>() : heard.error(), ErrorKind::Unavailable, {"dispatch", "rank 1"}
    );
  });
  EXPECT_THAT(found, Each(IsEmpty()));
}

TEST_P(GroupTest, NamesThePeerThatLeftWhileItSleeps) {
  const auto found = run(2, [](Group& group, Findings& f) {
    if (group.rank() == 1) return;
    const auto woken = group.wait_for_message();
    f.expect_error(woken.ok() ? Result<void>() : woken.error(), ErrorKind::Unavailable, {"rank 1"});
  });
  EXPECT_THAT(found, Each(IsEmpty()));
}

// Ranks that can be killed one by one.
class GroupOfProcessesTest : public GroupTest {};

TEST_P(GroupOfProcessesTest, NamesThePeerWhoseProcessWasKilled) {
  const auto found = run(3, [](Group& group, Findings& f) {
    f.expect(group.barrier("all there"));
    // A process can die with the last of its barrier still on its way: this one waits until the
    // others have left theirs.
    if (group.rank() == 1) {
      f.expect(group.receive(0, {}, "past the barrier").ok(), "rank 0 is there");
      f.expect(group.receive(2, {}, "past the barrier").ok(), "rank 2 is there");
      std::raise(SIGKILL);
    }
    group.send(1, {});
    // The limit is 20 s; what ends this is the death.
    const SystemClock clock;
    const Nanoseconds began = clock.now();
    const auto heard =
        group.rank() == 0 ? group.receive(1, {}, "dispatch") : group.receive(0, {}, "dispatch");
    f.expect_error(heard.ok() ? Result<void>() : heard.error(), ErrorKind::Unavailable, {"rank 1"});
    f.expect(clock.now() - began < std::chrono::seconds{5}, "noticed late");
  });
  EXPECT_THAT(found[0], IsEmpty());
  EXPECT_THAT(found[1], HasSubstr("signal 9"));
  EXPECT_THAT(found[2], IsEmpty());
}

std::vector<Transport> transports() {
  using Kind = Transport::Kind;
  return {
      {.name = "Local", .kind = Kind::Local},
      {.name = "LocalSpinning", .kind = Kind::Local, .spin = 1'000},
      {.name = "UcxThreads", .kind = Kind::UcxThreads},
      {.name = "UcxThreadsTcp", .kind = Kind::UcxThreads, .ucx_transports = "tcp"},
      {.name = "UcxProcesses", .kind = Kind::UcxProcesses},
      {.name = "UcxProcessesSpinning", .kind = Kind::UcxProcesses, .spin = 200},
      {.name = "UcxProcessesTcp", .kind = Kind::UcxProcesses, .ucx_transports = "tcp"},
  };
}

std::vector<Transport> transports_of_processes() {
  std::vector<Transport> all = transports();
  std::erase_if(all, [](const Transport& transport) {
    return transport.kind != Transport::Kind::UcxProcesses;
  });
  return all;
}

std::string name_of(const testing::TestParamInfo<Transport>& tested) {
  return tested.param.name;
}

INSTANTIATE_TEST_SUITE_P(Transports, GroupTest, testing::ValuesIn(transports()), name_of);
INSTANTIATE_TEST_SUITE_P(
    Transports,
    GroupOfProcessesTest,
    testing::ValuesIn(transports_of_processes()),
    name_of
);

}  // namespace
}  // namespace pleiad::comm
