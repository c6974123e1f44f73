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

// Cosine and sine of position * frequency in long double, which holds the products of a position
// below 2^32 with either half of a double exactly.
std::pair<long double, long double> true_cos_sin(std::int64_t position, double frequency) {
  const auto high = static_cast<double>(static_cast<float>(frequency));
  const auto place = static_cast<long double>(position);
  const long double a = place * static_cast<long double>(high);
  const long double b = place * static_cast<long double>(frequency - high);
  return {
      std::cos(a) * std::cos(b) - std::sin(a) * std::sin(b),
      std::sin(a) * std::cos(b) + std::cos(a) * std::sin(b)};
}

// Elements of the positions' angles that are not the nearest float to the truth.
std::size_t
wrong_angles(std::span<const std::int64_t> positions, std::span<const double> frequencies) {
  const double magnitude = 0.1 * std::log(32.0) + 1;  // of GPT-OSS
  const std::size_t half = frequencies.size();
  auto cos_sin = poison(positions.size() * 2 * half);
  rope_angles(positions, frequencies, magnitude, cos_sin);
  std::size_t wrong = 0;
  for (std::size_t row = 0; row < positions.size(); ++row) {
    const std::span<const float> angles = std::span(cos_sin).subspan(row * 2 * half, 2 * half);
    for (std::size_t i = 0; i < half; ++i) {
      const auto [cosine, sine] = true_cos_sin(positions[row], frequencies[i]);
      const auto scale = static_cast<long double>(magnitude);
      wrong += static_cast<std::size_t>(angles[i] != static_cast<float>(cosine * scale));
      wrong += static_cast<std::size_t>(angles[half + i] != static_cast<float>(sine * scale));
    }
  }
  return wrong;
}

TEST(RopeAngles, AreTheNearestFloatsOverTheLongestContexts) {
  constexpr std::int64_t kContext = 262'144;
  constexpr std::int64_t kFar = std::int64_t{1} << 31U;
  std::vector<std::int64_t> positions = {kContext - 1, kFar - 1, kFar, 2 * kFar - 1};
  for (std::int64_t position = 0; position < kContext; position += 61) {
    positions.push_back(position);
    positions.push_back(kFar - position);
  }
  const RopeScaling gpt_oss = {.factor = 32, .original_positions = 4096, .truncate = false};

  EXPECT_EQ(wrong_angles(positions, rope_frequencies(64, 10000, kDeepSeek)), 0U);
  EXPECT_EQ(wrong_angles(positions, rope_frequencies(128, 1e6, {})), 0U);
  EXPECT_EQ(wrong_angles(positions, rope_frequencies(64, 150000, gpt_oss)), 0U);
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
