#include "kernels/cuda/gate_logits.h"

#include <gtest/gtest.h>

#include "tests/kernels/cuda/device_array.h"

namespace pleiad::kernels::cuda {
namespace {

using testing::DeviceActivations;
using testing::DeviceArray;

TEST(CudaGateLogits, AreNearTheReferenceAndTheSameBitsInEveryBatch) {
  auto stream = testing::test_stream();
  Random random(4);
  for (const Compute compute : {Compute::Float32, Compute::BFloat16}) {
    for (const std::int64_t experts : {3, 60, 128}) {
      for (const std::int64_t inputs : {36, 300, 301, 2048}) {
        // More than the kernel for few rows takes.
        constexpr std::int64_t kRows = 520;
        const auto x =
            testing::random_floats(random, static_cast<std::size_t>(kRows * inputs), compute);
        const auto plain = testing::random_floats(
            random, static_cast<std::size_t>(experts * inputs), Compute::Float32
        );
        const auto bias =
            testing::random_floats(random, static_cast<std::size_t>(experts), Compute::Float32);
        const auto packed = kernels::testing::pack(plain, experts, inputs, Compute::Float32);
        const testing::UploadedMatrix weight(packed.matrix);
        const DeviceActivations rows(x, inputs, testing::activation_of(compute));
        const DeviceArray<float> biases(bias);
        const auto run = [&](std::int64_t first, std::int64_t count) {
          const DeviceArray<float> out(testing::poison(static_cast<std::size_t>(count * experts)));
          gate_logits(
              stream,
              {.x = rows.rows().from(first * inputs),
               .rows = count,
               .weight = weight.matrix(),
               .bias = biases.data(),
               .logits = out.data()}
          );
          return out.values(stream);
        };
        const auto all = run(0, kRows);
        const auto some = run(0, 40);
        EXPECT_TRUE(testing::same_bits(some, std::span(all).first(some.size())));
        const auto few = run(0, 7);
        EXPECT_TRUE(testing::same_bits(few, std::span(all).first(few.size())));
        for (std::int64_t r = 0; r < kRows; r += 37) {
          const auto at = static_cast<std::size_t>(r * experts);
          const auto width = static_cast<std::size_t>(experts);
          EXPECT_TRUE(testing::same_bits(run(r, 1), std::span(all).subspan(at, width))) << r;
          for (std::size_t e = 0; e < width; ++e) {
            double sum = static_cast<double>(bias[e]);
            for (std::size_t i = 0; i < static_cast<std::size_t>(inputs); ++i) {
              sum += static_cast<double>(x[static_cast<std::size_t>(r * inputs) + i]) *
                     static_cast<double>(plain[e * static_cast<std::size_t>(inputs) + i]);
            }
            EXPECT_NEAR(static_cast<double>(all[at + e]), sum, 1e-4);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace pleiad::kernels::cuda
