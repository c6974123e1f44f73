#include "kernels/cuda/quantize_rows.h"

#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "device/dtype.h"
#include "tests/kernels/cuda/device_array.h"

namespace pleiad::kernels::cuda {
namespace {

using testing::DeviceActivations;
using testing::DeviceArray;

struct Quantized {
  std::vector<std::uint8_t> codes;
  std::vector<float> scales;
};

Quantized run(const std::vector<float>& x, std::int64_t rows, std::int64_t width, Compute compute) {
  auto stream = testing::test_stream();
  const auto groups = static_cast<std::size_t>(width / kQuantizedGroup);
  const DeviceActivations values(x, width, testing::activation_of(compute));
  const DeviceArray<std::uint8_t> codes(std::vector<std::uint8_t>(x.size(), 0x7F));
  const DeviceArray<float> scales(testing::poison(groups * static_cast<std::size_t>(rows)));
  quantize_rows(
      stream,
      {.x = values.rows(),
       .rows = rows,
       .width = width,
       .codes = reinterpret_cast<std::byte*>(codes.data()),
       .scales = scales.data(),
       .scale_stride = rows}
  );
  return {.codes = codes.values(stream), .scales = scales.values(stream)};
}

TEST(CudaQuantizeRows, GivesTheNearestCodesUnderEachGroupsScale) {
  Random random(7);
  for (const Compute compute : {Compute::Float32, Compute::BFloat16}) {
    constexpr std::int64_t kRows = 5;
    constexpr std::int64_t kWidth = 384;
    auto x = testing::random_floats(random, kRows * kWidth, compute);
    std::fill_n(x.begin() + 128, 128, 0.0F);
    const Quantized got = run(x, kRows, kWidth, compute);
    for (std::int64_t row = 0; row < kRows; ++row) {
      for (std::int64_t group = 0; group < kWidth / kQuantizedGroup; ++group) {
        const auto first = static_cast<std::size_t>(row * kWidth + group * kQuantizedGroup);
        float largest = 0.0F;
        for (std::size_t i = 0; i < kQuantizedGroup; ++i) {
          largest = std::max(largest, std::fabs(x[first + i]));
        }
        const float scale = largest > 0.0F ? largest / 448.0F : 1.0F;
        EXPECT_EQ(got.scales[static_cast<std::size_t>(group * kRows + row)], scale);
        for (std::size_t i = 0; i < kQuantizedGroup; ++i) {
          EXPECT_EQ(
              device::f8e4m3_to_float(got.codes[first + i]),
              device::f8e4m3_to_float(device::float_to_f8e4m3(x[first + i] / scale))
          );
        }
      }
    }
  }
}

TEST(CudaQuantizeRows, ARowsBitsDependOnThatRowAlone) {
  Random random(8);
  constexpr std::int64_t kWidth = 256;
  const auto x = testing::random_floats(random, 3 * kWidth, Compute::BFloat16);
  const Quantized all = run(x, 3, kWidth, Compute::BFloat16);
  const Quantized one = run({x.begin() + 2 * kWidth, x.end()}, 1, kWidth, Compute::BFloat16);

  EXPECT_TRUE(std::equal(one.codes.begin(), one.codes.end(), all.codes.begin() + 2 * kWidth));
  EXPECT_EQ(one.scales[0], all.scales[2]);
  EXPECT_EQ(one.scales[1], all.scales[5]);
}

}  // namespace
}  // namespace pleiad::kernels::cuda
