#include "engine/lockstep.h"

#include <span>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "comm/local_group.h"

namespace pleiad::engine {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// What every rank concludes when rank r brings rows[r].
struct Agreed {
  std::vector<std::int32_t> rows;
  std::int64_t rows_of_all = 0;
  plan::EpLevel level = plan::EpLevel::Auto;
  bool two_batches = false;

  friend bool operator==(const Agreed&, const Agreed&) = default;
};

Agreed agree(const LockstepOptions& options, const std::vector<std::int64_t>& rows) {
  auto groups = comm::make_local_group(static_cast<comm::Rank>(rows.size()), {});
  std::vector<Agreed> agreed(rows.size());
  std::vector<std::thread> threads;
  for (std::size_t rank = 0; rank < rows.size(); ++rank) {
    threads.emplace_back([&, rank] {
      Lockstep lockstep(std::move(groups[rank]), options);
      const auto step = lockstep.agree(rows[rank]);
      EXPECT_TRUE(step.ok());
      if (!step.ok()) return;
      EXPECT_EQ((*step)->group->rank(), lockstep.rank());
      agreed[rank] = {
          .rows = {(*step)->rows.begin(), (*step)->rows.end()},
          .rows_of_all = lockstep.rows_of_all(),
          .level = (*step)->level,
          .two_batches = (*step)->two_batches,
      };
      // Peers may still be reading this rank's words.
      static_cast<void>(lockstep.agree(0).ok());
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  for (const Agreed& other : agreed) {
    EXPECT_EQ(other, agreed.front());
  }
  return agreed.front();
}

TEST(Lockstep, EveryRankLearnsWhatTheOthersBring) {
  const Agreed agreed = agree({}, {3, 0, 128});

  EXPECT_THAT(agreed.rows, ElementsAre(3, 0, 128));
  EXPECT_EQ(agreed.rows_of_all, 131);
  EXPECT_EQ(agree({}, {0, 0}).rows_of_all, 0);
}

TEST(Lockstep, AutoTakesAllToAllFromTheRowsOfAllRanksOnAndAGivenLevelStays) {
  const LockstepOptions by_size{.settings = {}, .all_to_all_rows_min = 8};
  EXPECT_EQ(agree(by_size, {3, 4}).level, plan::EpLevel::AllGather);
  EXPECT_EQ(agree(by_size, {4, 4}).level, plan::EpLevel::AllToAll);
  EXPECT_EQ(agree(by_size, {8, 0}).level, plan::EpLevel::AllToAll);
  for (const auto level : {plan::EpLevel::AllGather, plan::EpLevel::AllToAll}) {
    const LockstepOptions fixed{.settings = {.level = level}, .all_to_all_rows_min = 8};
    EXPECT_EQ(agree(fixed, {1, 1}).level, level);
    EXPECT_EQ(agree(fixed, {100, 100}).level, level);
  }
}

TEST(Lockstep, StepsAreHalvedWhenOneRankBringsEnough) {
  LockstepOptions options;
  options.settings.two_batch_overlap = true;
  options.settings.two_batch_tokens_min = 10;
  EXPECT_TRUE(agree(options, {0, 10}).two_batches);
  EXPECT_FALSE(agree(options, {9, 9}).two_batches);
  options.settings.two_batch_overlap = false;
  EXPECT_FALSE(agree(options, {0, 10}).two_batches);
}

TEST(Lockstep, TensorPartsBringAPartOfTheirLeadersRowsEach) {
  const LockstepOptions parts{.settings = {}, .tensor_parts = 3};
  const Agreed agreed = agree(parts, {8, 0, 0, 1, 0, 0});

  EXPECT_THAT(agreed.rows, ElementsAre(2, 3, 3, 0, 0, 1));
  EXPECT_EQ(agreed.rows_of_all, 9);
}

// What rank 0 makes of a peer that announces these numbers.
std::string refusal_of(std::uint64_t step, std::int64_t rows, const LockstepOptions& options = {}) {
  auto groups = comm::make_local_group(2, {});
  std::thread peer([&] {
    const std::uint64_t said[2] = {step, static_cast<std::uint64_t>(rows)};
    std::uint64_t heard[4] = {};
    static_cast<void>(
        groups[1]
            ->all_gather(
                std::as_bytes(std::span(said)), std::as_writable_bytes(std::span(heard)), "a step"
            )
            .ok()
    );
  });
  Lockstep lockstep(std::move(groups[0]), options);
  const auto agreed = lockstep.agree(1);
  peer.join();
  if (agreed.ok()) return "agreed";
  EXPECT_EQ(agreed.error().kind, ErrorKind::Corrupt);
  return agreed.error().message;
}

TEST(Lockstep, APeerAtAnotherStepIsNamed) {
  EXPECT_EQ(refusal_of(1, 5), "agreed");
  EXPECT_THAT(refusal_of(2, 5), HasSubstr("rank 1 is at step 2, this rank at 1"));
}

TEST(Lockstep, RowsThatCannotBeAreRefused) {
  EXPECT_THAT(refusal_of(1, -1), HasSubstr("rank 1 says that it brings -1 rows"));
  EXPECT_THAT(refusal_of(1, std::int64_t{1} << 32U), HasSubstr("4294967296 rows"));
  EXPECT_EQ(refusal_of(1, 0, {.settings = {}, .tensor_parts = 2}), "agreed");
  EXPECT_THAT(
      refusal_of(1, 3, {.settings = {}, .tensor_parts = 2}),
      HasSubstr("rank 1 says that it brings 3 rows")
  );
}

TEST(Lockstep, APeerThatLeavesEndsTheStepWithItsReason) {
  auto groups = comm::make_local_group(2, {});
  Lockstep lockstep(std::move(groups[0]), {});
  groups[1]->abort(unavailable("node 1 is gone"));

  const auto agreed = lockstep.agree(1);

  ASSERT_FALSE(agreed.ok());
  EXPECT_THAT(agreed.error().message, HasSubstr("node 1 is gone"));
}

TEST(Lockstep, WaitingEndsByAPeersStepOrAnInterruption) {
  auto groups = comm::make_local_group(2, {});
  Lockstep sleeper(std::move(groups[0]), {});
  sleeper.interrupt();
  EXPECT_EQ(sleeper.wait().value(), comm::Group::Wake::Interrupted);

  std::thread peer([&] {
    Lockstep other(std::move(groups[1]), {});
    EXPECT_TRUE(other.agree(7).ok());
    EXPECT_TRUE(other.agree(0).ok());
  });
  EXPECT_EQ(sleeper.wait().value(), comm::Group::Wake::Message);
  EXPECT_TRUE(sleeper.agree(0).ok());
  EXPECT_EQ(sleeper.rows_of_all(), 7);
  EXPECT_TRUE(sleeper.agree(0).ok());
  peer.join();
}

TEST(Lockstep, AbortBreaksTheGroupForEverybody) {
  auto groups = comm::make_local_group(2, {});
  Lockstep one(std::move(groups[0]), {});
  Lockstep other(std::move(groups[1]), {});

  one.abort(unavailable("rank 0 has had enough"));

  EXPECT_THAT(other.agree(1).error().message, HasSubstr("rank 0 has had enough"));
  EXPECT_FALSE(one.wait().ok());
}

}  // namespace
}  // namespace pleiad::engine
