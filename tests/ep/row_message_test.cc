#include "ep/row_message.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"

namespace pleiad::ep {
namespace {

using ::testing::HasSubstr;

constexpr RowFormat kFormat{.hidden = 6, .topk = 2, .dtype = device::DType::F32};

// Experts 0..3 on rank 0, 4..7 on rank 1, 3 on both.
const plan::ExpertPlacement& placement() {
  static const auto made = plan::ExpertPlacement::make(8, {{0, 1, 2, 3}, {4, 5, 6, 7, 3}}).value();
  return made;
}

DispatchLimits limits() {
  return {.rows_max = 4, .rounds_max = 3, .placement = &placement()};
}

// A good message of `rows` rows in memory that is aligned as receive buffers are.
class Message {
 public:
  explicit Message(std::uint32_t rows, const RowFormat& format = kFormat)
      : format_(format), size_(dispatch_bytes(format, rows)), words_(size_ / 4 + 64) {
    const auto parts = begin_dispatch(format, {.rows = rows, .rounds = 2}, bytes());
    Random random(rows);
    for (std::uint32_t row = 0; row < rows; ++row) {
      const auto low = static_cast<std::uint16_t>(random.below(4));
      const auto high = static_cast<std::uint16_t>(4 + random.below(4));
      parts.routes[row * 2] = {low, static_cast<std::uint16_t>(low == 3 ? random.below(2) : 0)};
      parts.routes[row * 2 + 1] = {high, 1};
    }
    for (float& weight : parts.weights) {
      weight = static_cast<float>(random.normal());
    }
    for (std::byte& byte : parts.x) {
      byte = static_cast<std::byte>(random.below(256));
    }
  }

  std::span<std::byte> bytes() { return std::as_writable_bytes(std::span(words_)).first(size_); }
  // The message with more or fewer bytes behind it.
  std::span<const std::byte> cut_to(std::size_t size) {
    return std::as_bytes(std::span(words_)).first(size);
  }
  DispatchHead& head() { return *reinterpret_cast<DispatchHead*>(words_.data()); }
  Route& route(std::size_t index) {
    return reinterpret_cast<Route*>(words_.data() + sizeof(DispatchHead) / 4)[index];
  }
  std::string refusal() {
    const auto read = read_dispatch(format_, limits(), bytes());
    if (read.ok()) return "accepted";
    EXPECT_EQ(read.error().kind, ErrorKind::Corrupt);
    return read.error().message;
  }

 private:
  RowFormat format_;
  std::size_t size_;
  std::vector<std::uint32_t> words_;
};

TEST(RowMessage, BringsBackWhatWasWritten) {
  for (const auto dtype : {device::DType::F32, device::DType::BF16}) {
    for (const std::uint32_t rows : {0U, 1U, 3U, 4U}) {
      const RowFormat format{.hidden = 6, .topk = 2, .dtype = dtype};
      Message message(rows, format);
      const auto written = begin_dispatch(format, {.rows = rows, .rounds = 2}, message.bytes());

      const auto read = read_dispatch(format, limits(), message.bytes()).value();

      EXPECT_EQ(read.head.rows, rows);
      EXPECT_EQ(read.head.rounds, 2U);
      EXPECT_EQ(read.routes.size(), rows * 2);
      EXPECT_EQ(read.x.size(), rows * 6 * device::size_of(dtype));
      EXPECT_EQ(
          std::memcmp(read.routes.data(), written.routes.data(), written.routes.size_bytes()), 0
      );
      EXPECT_TRUE(std::ranges::equal(read.weights, written.weights));
      EXPECT_TRUE(std::ranges::equal(read.x, written.x));
    }
  }
}

TEST(RowMessage, EveryOtherLengthIsRefused) {
  Message message(3);
  for (std::size_t size = 0; size <= message.bytes().size() + 64; ++size) {
    const auto read = read_dispatch(kFormat, limits(), message.cut_to(size));
    ASSERT_EQ(read.ok(), size == message.bytes().size()) << size;
    if (read.ok()) continue;
    ASSERT_EQ(read.error().kind, ErrorKind::Corrupt);
  }
}

TEST(RowMessage, RowsAndRoundsBeyondTheLimitsAreRefusedWhateverTheLength) {
  for (const std::uint32_t rows : {5U, 0x7FFFFFFFU, 0xFFFFFFFFU}) {
    Message message(3);
    message.head().rows = rows;
    EXPECT_THAT(message.refusal(), HasSubstr("4 is the most"));
  }
  for (const std::uint32_t rounds : {0U, 4U, 0xFFFFFFFFU}) {
    Message message(3);
    message.head().rounds = rounds;
    EXPECT_THAT(message.refusal(), HasSubstr("1 to 3 are possible"));
  }
}

TEST(RowMessage, RoutesMustBeOfThePlacement) {
  const Route bad[] = {{8, 1}, {0xFFFF, 1}, {7, 2}, {7, 0xFFFF}, {7, 0}};
  for (const Route& route : bad) {
    Message message(3);
    message.route(3) = route;
    EXPECT_THAT(message.refusal(), HasSubstr("where they do not stand"))
        << route.expert << " at " << route.holder;
  }
  Message replica(3);
  replica.route(2) = {3, 1};
  EXPECT_EQ(replica.refusal(), "accepted");
}

TEST(RowMessage, ARowsExpertsMustAscendAndThoseOfTwoRowsNeedNot) {
  Message message(3);
  message.route(2) = {1, 0};
  message.route(3) = {1, 0};
  EXPECT_THAT(message.refusal(), HasSubstr("out of order"));
  message.route(2) = {2, 0};
  EXPECT_THAT(message.refusal(), HasSubstr("out of order"));
  message.route(2) = {0, 0};
  EXPECT_EQ(message.refusal(), "accepted");
}

}  // namespace
}  // namespace pleiad::ep
