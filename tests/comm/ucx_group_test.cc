// What only groups over UCX do: find each other, tell epochs apart, notice damage.
// Also tests: ucx_worker.cc, ucx_port.cc, ucx_wire.cc
#include "comm/ucx_group.h"

#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <unistd.h>

#include "comm/detail/ucx_wire.h"
#include "tests/comm/rank_runner.h"

namespace pleiad::comm {
namespace {

using std::chrono::milliseconds;
using testing::Each;
using testing::HasSubstr;
using testing::IsEmpty;

struct Ends {
  std::vector<std::unique_ptr<UcxEndpoint>> endpoints;
  std::vector<std::vector<std::byte>> addresses;
};

Ends open_ends(int count, const UcxGroupOptions& options) {
  Ends ends;
  for (int i = 0; i < count; ++i) {
    auto endpoint = UcxEndpoint::open(options);
    EXPECT_TRUE(endpoint.ok()) << endpoint.error().message;
    const auto address = (*endpoint)->address();
    ends.addresses.emplace_back(address.begin(), address.end());
    ends.endpoints.push_back(std::move(*endpoint));
  }
  return ends;
}

TEST(UcxEndpoint, SaysWhichTransportsItCannotUse) {
  const auto endpoint = UcxEndpoint::open({.transports = "telepathy"});
  ASSERT_FALSE(endpoint.ok());
  EXPECT_EQ(endpoint.error().kind, ErrorKind::Internal);
  EXPECT_THAT(endpoint.error().message, HasSubstr("telepathy"));
}

TEST(UcxEndpoint, NamesTheRankThatNeverCame) {
  Ends ends = open_ends(2, {.limit = milliseconds{200}});

  const auto group = UcxEndpoint::join(std::move(ends.endpoints[0]), 0, ends.addresses, 1);

  ASSERT_FALSE(group.ok());
  EXPECT_EQ(group.error().kind, ErrorKind::Timeout);
  EXPECT_THAT(
      group.error().message, HasSubstr("joining the group: rank 0 heard nothing of rank 1")
  );
}

TEST(UcxEndpoint, StopsWhileItJoins) {
  Ends ends = open_ends(2, {});
  int asked = 0;
  const auto stopped = [&] { return ++asked > 3; };

  const auto group = UcxEndpoint::join(std::move(ends.endpoints[0]), 0, ends.addresses, 1, stopped);

  ASSERT_FALSE(group.ok());
  EXPECT_EQ(group.error().kind, ErrorKind::Cancelled);
}

TEST(UcxEndpoint, NamesTheRankThatBelongsToAnotherEpoch) {
  Ends ends = open_ends(2, {.limit = milliseconds{500}});
  std::vector<std::string> messages(2);
  std::vector<std::thread> threads;
  for (Rank rank = 0; rank < 2; ++rank) {
    threads.emplace_back([&, rank] {
      const auto index = static_cast<std::size_t>(rank);
      const std::uint32_t epoch = 40 + static_cast<std::uint32_t>(rank);
      const auto group =
          UcxEndpoint::join(std::move(ends.endpoints[index]), rank, ends.addresses, epoch);
      if (!group.ok()) messages[index] = group.error().message;
    });
  }
  for (auto& thread : threads) {
    thread.join();
  }
  EXPECT_THAT(messages[0], HasSubstr("rank 1 joined a group of epoch 41"));
  EXPECT_THAT(messages[1], HasSubstr("rank 0 joined a group of epoch 40"));
}

TEST(UcxEndpoint, RefusesARankWithoutAnAddress) {
  Ends ends = open_ends(1, {});
  ends.addresses.emplace_back();
  const auto group = UcxEndpoint::join(std::move(ends.endpoints[0]), 0, ends.addresses, 1);
  ASSERT_FALSE(group.ok());
  EXPECT_EQ(group.error().kind, ErrorKind::InvalidInput);
}

// Bytes that change while they are sent, as they never should, are bytes that arrive damaged: a
// large message is fetched only when its receiver offers a buffer.
TEST(UcxGroup, NoticesDamage) {
  std::vector<std::byte> sent(8U << 20U);
  pthread_barrier_t damaged;
  pthread_barrier_init(&damaged, nullptr, 2);
  const auto found = run_ranks(
      {.transport = {.name = "ucx", .kind = Transport::Kind::UcxThreads}},
      [&](Group& group, Findings& f) {
        if (group.rank() == 1) {
          group.send(0, sent);
          sent[5'000'000] = std::byte{1};
          pthread_barrier_wait(&damaged);
          const auto woken = group.wait_for_message();
          f.expect_error(
              woken.ok() ? Result<void>() : woken.error(), ErrorKind::Corrupt, {"rank 0", "damaged"}
          );
          return;
        }
        std::vector<std::byte> received(sent.size());
        pthread_barrier_wait(&damaged);
        const auto got = group.receive(1, received, "dispatch of layer 3");
        f.expect_error(
            got.ok() ? Result<void>() : got.error(),
            ErrorKind::Corrupt,
            {"dispatch of layer 3", "rank 1", "damaged"}
        );
      }
  );
  pthread_barrier_destroy(&damaged);
  EXPECT_THAT(found, Each(IsEmpty()));
}

TEST(UcxWire, ChecksumsCoverHeaderAndPayload) {
  const UcxHeader header{.epoch = 3, .source = 1, .sequence = 9, .bytes = 2};
  const std::vector<std::byte> payload{std::byte{1}, std::byte{2}};
  const std::uint64_t sum = checksum_of(header, payload);
  UcxHeader other = header;
  other.sequence = 8;
  EXPECT_NE(checksum_of(other, payload), sum);
  other = header;
  other.epoch = 4;
  EXPECT_NE(checksum_of(other, payload), sum);
  other = header;
  other.checksum = 99;
  EXPECT_EQ(checksum_of(other, payload), sum);
  EXPECT_NE(checksum_of(header, std::span(payload).first(1)), sum);
}

TEST(UcxWire, KnowsItsProcess) {
  const UcxHome mine = find_home();
  EXPECT_EQ(mine.process, ::getpid());
  EXPECT_TRUE(mine.shares_memory_with(find_home()));
  EXPECT_FALSE(mine.shares_memory_with({.machine = mine.machine + 1, .process = mine.process}));
  EXPECT_FALSE(UcxHome{}.shares_memory_with(UcxHome{}));
}

TEST(UcxGroup, EpochsFollowEachOther) {
  for (int epoch = 0; epoch < 5; ++epoch) {
    const auto found = run_ranks(
        {.transport = {.name = "ucx", .kind = Transport::Kind::UcxThreads}, .size = 3},
        [](Group& group, Findings& f) { f.expect(group.barrier("first words")); }
    );
    EXPECT_THAT(found, Each(IsEmpty()));
  }
}

}  // namespace
}  // namespace pleiad::comm
