#include "engine/shared_batch.h"

#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/wire_bytes.h"
#include "comm/local_group.h"

namespace pleiad::engine {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;

constexpr SharedBatch::Limits kLimits{
    .rows_max = 8,
    .sequences_max = 4,
    .logit_rows_max = 4,
    .context_max = 256,
    .vocabulary = 100,
    .pages = 20,
};

model::TensorPlace part(std::int32_t index) {
  return {.parts = 3, .part = index, .first_rank = 0};
}

// Two sequences: positions 63 and 64 of one, 5 of another.
struct Rows {
  std::vector<std::uint32_t> first_table = {7, 9, 11};
  std::vector<std::uint32_t> second_table = {19};
  std::vector<TokenId> tokens = {99, 0, 42};
  std::vector<std::int64_t> positions = {63, 64, 5};
  std::vector<model::AttentionRow> rows = {
      {first_table.data(), 63},
      {first_table.data(), 64},
      {second_table.data(), 5}};
  std::vector<std::int32_t> logit_rows = {1, 2};

  [[nodiscard]] model::Batch batch() const {
    return {.tokens = tokens, .positions = positions, .rows = rows, .logit_rows = logit_rows};
  }
};

TEST(SharedBatch, EveryPartGetsTheLeadersRowsStepAfterStep) {
  auto groups = comm::make_local_group(3, {});
  const auto follow = [&](std::int32_t index) {
    SharedBatch shared(part(index), kLimits);
    for (int step = 0; step < 3; ++step) {
      const auto batch = shared.receive(*groups[static_cast<std::size_t>(index)], 3);
      ASSERT_TRUE(batch.ok()) << batch.error().message;
      EXPECT_THAT(batch->tokens, ElementsAre(99, 0, 42));
      EXPECT_THAT(batch->positions, ElementsAre(63, 64, 5));
      EXPECT_THAT(batch->logit_rows, ElementsAre(1, 2));
      ASSERT_EQ(batch->rows.size(), 3U);
      EXPECT_EQ(batch->rows[0].page_table, batch->rows[1].page_table);
      EXPECT_EQ(batch->rows[1].position, 64);
      EXPECT_EQ(batch->rows[1].page_table[1], 9U);
      EXPECT_EQ(batch->rows[2].page_table[0], 19U);
    }
  };
  std::thread one([&] { follow(1); });
  std::thread two([&] { follow(2); });
  SharedBatch leader(part(0), kLimits);
  for (int step = 0; step < 3; ++step) {
    const Rows rows;  // gone when the next step begins
    EXPECT_TRUE(leader.send(*groups[0], rows.batch()).ok());
  }
  one.join();
  two.join();
}

// What a part says to the leader's rows when `rows` were agreed on.
std::string refusal_of(const Rows& rows, std::int64_t agreed = 3) {
  const SharedBatch::Limits generous{
      .rows_max = 100,
      .sequences_max = 100,
      .logit_rows_max = 100,
      .context_max = 10000,
      .vocabulary = 1000,
      .pages = 1000,
  };
  auto groups = comm::make_local_group(3, {});
  SharedBatch leader(part(0), generous);
  EXPECT_TRUE(leader.send(*groups[0], rows.batch()).ok());
  SharedBatch shared(part(1), kLimits);
  const auto batch = shared.receive(*groups[1], agreed);
  if (batch.ok()) return "taken";
  EXPECT_EQ(batch.error().kind, ErrorKind::Corrupt);
  return batch.error().message;
}

TEST(SharedBatch, WhatIsOutsideTheLimitsIsRefused) {
  EXPECT_EQ(refusal_of({}), "taken");
  EXPECT_THAT(refusal_of({}, 2), HasSubstr("2 rows were agreed on"));
  Rows rows;
  rows.tokens[0] = 100;
  EXPECT_THAT(refusal_of(rows), HasSubstr("beyond the limits"));
  rows = {};
  rows.logit_rows[1] = 3;
  EXPECT_THAT(refusal_of(rows), HasSubstr("beyond the limits"));
  Rows pages;
  pages.first_table[0] = 20;
  EXPECT_THAT(refusal_of(pages), HasSubstr("beyond the limits"));
  Rows logits;
  logits.logit_rows = {0, 1, 2, 0, 1};
  EXPECT_THAT(refusal_of(logits), HasSubstr("5 logits"));
}

TEST(SharedBatch, BytesThatMakeNoSenseAreRefused) {
  for (std::size_t length = 0; length < 60; length += 7) {
    auto groups = comm::make_local_group(3, {});
    const std::vector<std::byte> garbage(length, std::byte{3});
    groups[0]->send(1, garbage);
    SharedBatch shared(part(1), kLimits);
    const auto batch = shared.receive(*groups[1], 3);
    ASSERT_FALSE(batch.ok());
    EXPECT_THAT(batch.error().message, HasSubstr("rows of a step for tensor parts"));
  }
}

}  // namespace
}  // namespace pleiad::engine
