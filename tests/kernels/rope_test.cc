#include "kernels/rope.h"

#include <gtest/gtest.h>
#include <numbers>

#include "tests/kernels/support.h"

namespace pleiad::kernels {
namespace {

using testing::poison;
using testing::random_floats;
using testing::same_bits;

constexpr RopeScaling kDeepSeek = {.factor = 40, .original_positions = 4096};

TEST(RopeFrequencies, AreThePlainOnesWithoutScaling) {
  const auto frequencies = rope_frequencies(64, 10000, {});

  ASSERT_EQ(frequencies.size(), 32U);
  EXPECT_DOUBLE_EQ(frequencies[0], 1.0);
  EXPECT_NEAR(frequencies[16], 0.01, 1e-15);
}

TEST(RopeFrequencies, KeepFastPairsAndStretchSlowOnesAsDeepSeekDoes) {
  const auto plain = rope_frequencies(64, 10000, {});
  const auto scaled = rope_frequencies(64, 10000, kDeepSeek);

  // The correction range of these sizes is [10, 23].
  for (std::size_t i = 0; i <= 10; ++i) {
    EXPECT_DOUBLE_EQ(scaled[i], plain[i]) << i;
  }
  for (std::size_t i = 23; i < 32; ++i) {
    EXPECT_DOUBLE_EQ(scaled[i], plain[i] / 40) << i;
  }
  for (std::size_t i = 11; i < 23; ++i) {
    const double ramp = (static_cast<double>(i) - 10) / 13;
    EXPECT_NEAR(scaled[i], plain[i] / 40 * ramp + plain[i] * (1 - ramp), 1e-15) << i;
  }
}

TEST(RopeFrequencies, DoNotTruncateWhenToldNotTo) {
  const auto plain = rope_frequencies(64, 150000, {});
  const auto scaled =
      rope_frequencies(64, 150000, {.factor = 32, .original_positions = 4096, .truncate = false});

  const double low = 8.0928;
  const double high = 17.3980;
  EXPECT_DOUBLE_EQ(scaled[8], plain[8]);
  const double ramp = (9 - low) / (high - low);
  EXPECT_NEAR(scaled[9], plain[9] / 32 * ramp + plain[9] * (1 - ramp), 1e-5 * plain[9]);
  EXPECT_DOUBLE_EQ(scaled[18], plain[18] / 32);
}

TEST(RopeFrequencies, SurviveARangeOfOnePair) {
  // Kimi-K2: 19.165 for both ends.
  const auto plain = rope_frequencies(64, 50000, {});
  const auto scaled = rope_frequencies(
      64, 50000, {.factor = 32, .original_positions = 4096, .beta_fast = 1, .beta_slow = 1}
  );

  EXPECT_DOUBLE_EQ(scaled[19], plain[19]);
  EXPECT_DOUBLE_EQ(scaled[20], plain[20] / 32);
}

TEST(RopeAngles, AreExactAtFarPositions) {
  const std::vector<std::int64_t> positions = {0, 1, 4'000'000'000};
  const std::vector<double> frequencies = {1.0, 0.001};
  auto cos_sin = poison(3 * 4);

  rope_angles(positions, frequencies, 2.0, cos_sin);

  for (std::size_t row = 0; row < 3; ++row) {
    for (std::size_t i = 0; i < 2; ++i) {
      const double angle = static_cast<double>(positions[row]) * frequencies[i];
      EXPECT_EQ(cos_sin[row * 4 + i], static_cast<float>(2 * std::cos(angle)));
      EXPECT_EQ(cos_sin[row * 4 + 2 + i], static_cast<float>(2 * std::sin(angle)));
    }
  }
}

class RopeOn : public ::testing::TestWithParam<RopePairs> {};

TEST_P(RopeOn, RotatesEachPairByItsAngle) {
  device::ThreadPool pool(2);
  Random random(1);
  constexpr std::int64_t kWidth = 6;
  constexpr std::int64_t kHeadStride = 9;
  constexpr std::int64_t kRowStride = 4 * kHeadStride + 2;
  const auto before = random_floats(random, 5 * kRowStride, Compute::Float32);
  const std::vector<std::int64_t> positions = {0, 3, 17, 18, 1000};
  auto cos_sin = poison(5 * kWidth);
  rope_angles(positions, rope_frequencies(kWidth, 100, {}), 1.0, cos_sin);
  auto x = before;

  apply_rope(
      {&pool, device::detect_cpu_isa(), Compute::Float32},
      {.x = x.data(),
       .row_stride = kRowStride,
       .head_stride = kHeadStride,
       .rows = 5,
       .heads = 4,
       .width = kWidth,
       .cos_sin = cos_sin.data(),
       .pairs = GetParam()}
  );

  const bool halves = GetParam() == RopePairs::Halves;
  auto expected = before;
  for (std::size_t row = 0; row < 5; ++row) {
    for (std::size_t head = 0; head < 4; ++head) {
      for (std::size_t pair = 0; pair < 3; ++pair) {
        const std::size_t at = row * kRowStride + head * kHeadStride;
        const std::size_t first = at + (halves ? pair : 2 * pair);
        const std::size_t second = first + (halves ? 3 : 1);
        const double angle =
            static_cast<double>(positions[row]) * std::pow(100.0, -static_cast<double>(pair) / 3);
        expected[first] =
            static_cast<float>(before[first] * std::cos(angle) - before[second] * std::sin(angle));
        expected[second] =
            static_cast<float>(before[second] * std::cos(angle) + before[first] * std::sin(angle));
      }
    }
  }
  EXPECT_LE(testing::largest_difference(x, expected), 1e-6F);
}

INSTANTIATE_TEST_SUITE_P(
    Pairs,
    RopeOn,
    ::testing::Values(RopePairs::Interleaved, RopePairs::Halves)
);

TEST(ApplyRope, RoundsActivationsUnderBFloat16) {
  device::ThreadPool pool(1);
  std::vector<float> x = {1.0F, 1.0F};
  const std::vector<float> cos_sin = {std::cos(1.0F), std::sin(1.0F)};

  apply_rope(
      {&pool, device::detect_cpu_isa(), Compute::BFloat16},
      {.x = x.data(), .rows = 1, .heads = 1, .width = 2, .cos_sin = cos_sin.data()}
  );

  EXPECT_EQ(x[0], device::round_to_bf16(cos_sin[0] - cos_sin[1]));
  EXPECT_EQ(x[1], device::round_to_bf16(cos_sin[0] + cos_sin[1]));
}

}  // namespace
}  // namespace pleiad::kernels
