#include "kernels/row_ops.h"

#include <array>
#include <cstring>

#include <gtest/gtest.h>

#include "kernels/detail/isa_kernels.h"
#include "tests/kernels/support.h"

namespace pleiad::kernels {
namespace {

using device::CpuIsa;
using device::DType;
using testing::largest_difference;
using testing::poison;
using testing::random_floats;
using testing::same_bits;

constexpr std::array kComputes = {Compute::Float32, Compute::BFloat16};
constexpr std::array<std::int64_t, 8> kWidths = {1, 7, 8, 15, 16, 33, 256, 1000};

// The spacing of a result of size one, doubled: what two roundings of one number may differ by.
float tolerance(Compute compute) {
  return compute == Compute::BFloat16 ? 0.04F : 1e-5F;
}

TEST(RmsNorm, MatchesTheReferenceAndItselfOnEveryIsa) {
  Random random(1);
  device::ThreadPool pool(2);
  for (const Compute compute : kComputes) {
    for (const std::int64_t width : kWidths) {
      const std::int64_t rows = random.between(1, 20);
      const auto x = random_floats(random, static_cast<std::size_t>(rows * (width + 2)), compute);
      const auto weight = random_floats(random, static_cast<std::size_t>(width), compute);
      RmsNormTask task = {
          .x = x.data(),
          .x_stride = width + 2,
          .rows = rows,
          .width = width,
          .weight = weight.data(),
          .y_stride = width,
      };
      auto expected = poison(static_cast<std::size_t>(rows * width));
      task.y = expected.data();
      rms_norm_reference(compute, task);
      std::vector<float> first;
      for (const CpuIsa isa : testing::runnable_isas()) {
        auto y = poison(expected.size());
        task.y = y.data();
        rms_norm({&pool, isa, compute}, task);
        EXPECT_LE(largest_difference(y, expected), tolerance(compute)) << width;
        if (first.empty()) first = y;
        EXPECT_TRUE(same_bits(y, first)) << device::to_string(isa) << ' ' << width;
      }
    }
  }
}

TEST(RmsNorm, WorksInPlaceAndGivesARowTheSameBitsAlone) {
  Random random(2);
  device::ThreadPool pool(3);
  constexpr std::size_t kWidth = 333;
  const auto x = random_floats(random, 40 * kWidth, Compute::Float32);
  const auto weight = random_floats(random, kWidth, Compute::Float32);
  auto together = x;
  RmsNormTask task = {
      .x = together.data(),
      .x_stride = kWidth,
      .rows = 40,
      .width = kWidth,
      .weight = weight.data(),
      .y = together.data(),
      .y_stride = kWidth,
  };
  const Context context = {&pool, device::detect_cpu_isa(), Compute::Float32};

  rms_norm(context, task);

  auto alone = poison(kWidth);
  task.rows = 1;
  task.y = alone.data();
  for (std::size_t row = 0; row < 40; ++row) {
    task.x = x.data() + row * kWidth;
    rms_norm(context, task);
    EXPECT_TRUE(same_bits(alone, std::span(together).subspan(row * kWidth, kWidth))) << row;
  }
}

TEST(RmsNorm, TreatsEachHeadOfARowAsARowOfItsOwn) {
  Random random(9);
  device::ThreadPool pool(2);
  constexpr std::int64_t kHead = 24;
  const auto x = random_floats(random, 5 * 100, Compute::Float32);
  const auto weight = random_floats(random, kHead, Compute::Float32);
  auto y = x;
  RmsNormTask task = {
      .x = y.data() + 1,
      .x_stride = 100,
      .rows = 5,
      .heads = 4,
      .width = kHead,
      .weight = weight.data(),
      .y = y.data() + 1,
      .y_stride = 100,
  };

  rms_norm({&pool, device::detect_cpu_isa(), Compute::Float32}, task);

  for (std::size_t row = 0; row < 5; ++row) {
    EXPECT_EQ(y[row * 100], x[row * 100]);
    EXPECT_EQ(y[row * 100 + 97], x[row * 100 + 97]);
    for (std::size_t head = 0; head < 4; ++head) {
      const std::size_t at = row * 100 + 1 + head * kHead;
      std::vector<float> alone(kHead);
      task = {.x = x.data() + at, .rows = 1, .width = kHead, .weight = weight.data()};
      task.y = alone.data();
      rms_norm_reference(Compute::Float32, task);
      EXPECT_LE(largest_difference(std::span(y).subspan(at, kHead), alone), 1e-5F);
    }
  }
}

TEST(ClampedSwiglu, MatchesTheReferenceAndItselfOnEveryIsa) {
  Random random(10);
  device::ThreadPool pool(2);
  for (const Compute compute : kComputes) {
    for (const std::int64_t width : kWidths) {
      const std::int64_t rows = random.between(1, 20);
      auto gate_up = random_floats(random, static_cast<std::size_t>(rows * 2 * width), compute);
      for (float& value : gate_up) {
        value *= 6;  // so that many are beyond the limit
      }
      ClampedSwigluTask task = {.gate_up = gate_up.data(), .rows = rows, .width = width};
      auto expected = poison(static_cast<std::size_t>(rows * width));
      task.y = expected.data();
      clamped_swiglu_reference(compute, task);
      std::vector<float> first;
      for (const CpuIsa isa : testing::runnable_isas()) {
        auto y = poison(expected.size());
        task.y = y.data();
        clamped_swiglu({&pool, isa, compute}, task);
        EXPECT_LE(largest_difference(y, expected), 56 * tolerance(compute)) << width;
        if (first.empty()) first = y;
        EXPECT_TRUE(same_bits(y, first)) << device::to_string(isa) << ' ' << width;
      }
    }
  }
}

TEST(SiluMul, MatchesTheReferenceAndItselfOnEveryIsa) {
  Random random(3);
  device::ThreadPool pool(2);
  for (const Compute compute : kComputes) {
    for (const std::int64_t width : kWidths) {
      const std::int64_t rows = random.between(1, 20);
      const auto x = random_floats(random, static_cast<std::size_t>(rows * width * 2), compute);
      SiluMulTask task = {.gate_up = x.data(), .rows = rows, .width = width};
      auto expected = poison(static_cast<std::size_t>(rows * width));
      task.y = expected.data();
      silu_mul_reference(compute, task);
      std::vector<float> first;
      for (const CpuIsa isa : testing::runnable_isas()) {
        auto y = poison(expected.size());
        task.y = y.data();
        silu_mul({&pool, isa, compute}, task);
        EXPECT_LE(largest_difference(y, expected), tolerance(compute)) << width;
        if (first.empty()) first = y;
        EXPECT_TRUE(same_bits(y, first)) << device::to_string(isa) << ' ' << width;
      }
    }
  }
}

TEST(SiluMul, StaysFiniteForLargeGates) {
  device::ThreadPool pool(1);
  const std::vector<float> gate_up = {-500.0F, -88.0F, 88.0F, 500.0F, 1.0F, 1.0F, 1.0F, 1.0F};
  auto y = poison(4);

  silu_mul({&pool, device::detect_cpu_isa(), Compute::Float32}, {gate_up.data(), 1, 4, y.data()});

  EXPECT_NEAR(y[0], 0.0F, 1e-30F);
  EXPECT_NEAR(y[1], 0.0F, 1e-30F);
  EXPECT_EQ(y[2], 88.0F);
  EXPECT_EQ(y[3], 500.0F);
}

// Distance in units in the last place.
double ulps(float value, double exact) {
  const auto nearest = static_cast<float>(exact);
  const float next = std::nextafter(nearest, std::numeric_limits<float>::infinity());
  return std::fabs(static_cast<double>(value) - exact) / (static_cast<double>(next) - nearest);
}

TEST(Exp, IsWithinTwoUlpsEverywhereAndTheSameOnEveryIsa) {
  std::vector<float> x;
  for (float value = -87.33F; value < 88.72F; value += 0.000703F) {
    x.push_back(value);
  }
  std::vector<float> first;
  for (const CpuIsa isa : testing::runnable_isas()) {
    auto y = poison(x.size());
    detail::kernels_of(isa).exp(x.data(), static_cast<std::int64_t>(x.size()), y.data());
    double worst = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      worst = std::max(worst, ulps(y[i], std::exp(static_cast<double>(x[i]))));
    }
    EXPECT_LE(worst, 2.0) << device::to_string(isa);
    if (first.empty()) first = y;
    EXPECT_TRUE(same_bits(y, first)) << device::to_string(isa);
  }
}

TEST(Exp, KeepsItsPromisesAtTheEnds) {
  const float infinity = std::numeric_limits<float>::infinity();
  const std::vector<float> x = {
      -infinity, -1e30F, -87.34F, 0.0F, -0.0F, 88.73F, 1e30F, infinity, std::nanf("")};
  for (const CpuIsa isa : testing::runnable_isas()) {
    auto y = poison(x.size());
    detail::kernels_of(isa).exp(x.data(), static_cast<std::int64_t>(x.size()), y.data());
    EXPECT_EQ(y[0], 0.0F);
    EXPECT_EQ(y[1], 0.0F);
    EXPECT_EQ(y[2], 0.0F);
    EXPECT_EQ(y[3], 1.0F);
    EXPECT_EQ(y[4], 1.0F);
    EXPECT_EQ(y[5], infinity);
    EXPECT_EQ(y[6], infinity);
    EXPECT_EQ(y[7], infinity);
    EXPECT_TRUE(std::isnan(y[8]));
  }
}

TEST(AddRows, AddsEveryElementOnce) {
  Random random(4);
  for (const std::size_t count : {1U, 17U, 4096U, 4097U, 100'003U}) {
    const auto x = random_floats(random, count, Compute::Float32);
    const auto before = random_floats(random, count, Compute::Float32);
    auto expected = before;
    for (std::size_t i = 0; i < count; ++i) {
      expected[i] += x[i];
    }
    for (const CpuIsa isa : testing::runnable_isas()) {
      device::ThreadPool pool(2);
      auto residual = before;
      add_rows(
          {&pool, isa, Compute::Float32},
          x.data(),
          static_cast<std::int64_t>(count),
          residual.data()
      );
      EXPECT_TRUE(same_bits(residual, expected)) << device::to_string(isa) << ' ' << count;
    }
  }
}

TEST(EmbedRows, LooksUpEveryDtype) {
  device::ThreadPool pool(2);
  const Context context = {&pool, device::detect_cpu_isa(), Compute::Float32};
  const std::array<float, 4> f32 = {1.0F, 2.0F, -3.0F, 0.5F};
  const std::array<std::uint16_t, 4> bf16 = {0x3F80, 0x4000, 0xC040, 0x3F00};
  const std::array<std::uint16_t, 4> f16 = {0x3C00, 0x4000, 0xC200, 0x3800};
  const std::array<std::uint32_t, 3> ids = {1, 0, 1};
  const auto lookup = [&](std::span<const std::byte> bytes, DType dtype) {
    auto y = poison(6);
    const device::TensorView table = {bytes, dtype, {.extents = {2, 2}, .rank = 2}};
    embed_rows(context, {table, ids, y.data()});
    return y;
  };
  const std::vector<float> expected = {-3.0F, 0.5F, 1.0F, 2.0F, -3.0F, 0.5F};

  EXPECT_EQ(lookup(std::as_bytes(std::span(f32)), DType::F32), expected);
  EXPECT_EQ(lookup(std::as_bytes(std::span(bf16)), DType::BF16), expected);
  EXPECT_EQ(lookup(std::as_bytes(std::span(f16)), DType::F16), expected);
}

TEST(EmbedRowsDeathTest, EndsOnAnIdOutsideTheVocabulary) {
  device::ThreadPool pool(1);
  const std::array<float, 2> values = {1.0F, 2.0F};
  const std::array<std::uint32_t, 1> ids = {2};
  auto y = poison(1);
  const EmbeddingTask task = {testing::view_of(values, 2, 1), ids, y.data()};

  EXPECT_DEATH(
      embed_rows({&pool, CpuIsa::Portable, Compute::Float32}, task), "below the vocabulary"
  );
}

}  // namespace
}  // namespace pleiad::kernels
