#include "kernels/cuda/gate_logits.h"

#include <gtest/gtest.h>

#include "tests/kernels/cuda/device_array.h"

namespace pleiad::kernels::cuda {
namespace {

using testing::DeviceActivations;
using testing::DeviceArray;

// Rows, a gate and its biases.
struct Scene {
  std::int64_t rows;
  std::int64_t experts;
  std::int64_t inputs;
  std::vector<float> x;
  std::vector<float> plain;
  std::vector<float> bias;
  testing::UploadedMatrix weight;
  DeviceActivations activations;
  DeviceArray<float> biases;

  Scene(
      Random& random,
      std::int64_t row_count,
      std::int64_t expert_count,
      std::int64_t input_count,
      Compute rows_in,
      Compute weights_in
  )
      : rows(row_count),
        experts(expert_count),
        inputs(input_count),
        x(testing::random_floats(random, size(rows * inputs), rows_in)),
        plain(testing::random_floats(random, size(experts * inputs), weights_in)),
        bias(testing::random_floats(random, size(experts), Compute::Float32)),
        weight(kernels::testing::pack(plain, experts, inputs, weights_in).matrix),
        activations(x, inputs, testing::activation_of(rows_in)),
        biases(bias) {}

  static std::size_t size(std::int64_t count) { return static_cast<std::size_t>(count); }

  // Logits of some rows, poisoned before.
  [[nodiscard]] std::vector<float>
  run(device::cuda::Stream& stream, std::int64_t first, std::int64_t count) const {
    const DeviceArray<float> out(testing::poison(size(count * experts)));
    gate_logits(
        stream,
        {.x = activations.rows().from(first * inputs),
         .rows = count,
         .weight = weight.matrix(),
         .bias = biases.data(),
         .logits = out.data()}
    );
    return out.values(stream);
  }

  [[nodiscard]] double reference(std::int64_t row, std::int64_t expert) const {
    double sum = static_cast<double>(bias[size(expert)]);
    for (std::int64_t i = 0; i < inputs; ++i) {
      sum += static_cast<double>(x[size(row * inputs + i)]) *
             static_cast<double>(plain[size(expert * inputs + i)]);
    }
    return sum;
  }
};

// Runs all rows, then parts of them, large enough for every kernel: the same bits, near the
// reference.
void expect_right(device::cuda::Stream& stream, const Scene& scene) {
  const auto all = scene.run(stream, 0, scene.rows);
  const auto part = [&](std::int64_t first, std::int64_t count) {
    return std::span(all).subspan(
        Scene::size(first * scene.experts), Scene::size(count * scene.experts)
    );
  };
  for (const std::int64_t count : {520, 40, 7}) {
    EXPECT_TRUE(testing::same_bits(scene.run(stream, 0, count), part(0, count))) << count;
  }
  EXPECT_TRUE(testing::same_bits(scene.run(stream, 8, 129), part(8, 129)));
  for (std::int64_t row = 0; row < scene.rows; row += 97) {
    EXPECT_TRUE(testing::same_bits(scene.run(stream, row, 1), part(row, 1))) << row;
    for (std::int64_t expert = 0; expert < scene.experts; ++expert) {
      const float got = all[Scene::size(row * scene.experts + expert)];
      EXPECT_NEAR(static_cast<double>(got), scene.reference(row, expert), 1e-4);
    }
  }
}

TEST(CudaGateLogits, OfFloatsAreNearTheReferenceAndTheSameBitsInEveryBatch) {
  auto stream = testing::test_stream();
  Random random(4);
  for (const Compute compute : {Compute::Float32, Compute::BFloat16}) {
    for (const std::int64_t experts : {3, 60, 128}) {
      for (const std::int64_t inputs : {36, 300, 301, 2048}) {
        expect_right(stream, Scene(random, 520, experts, inputs, compute, Compute::Float32));
      }
    }
  }
}

TEST(CudaGateLogits, OfBFloat16AreNearTheReferenceAndTheSameBitsInEveryBatch) {
  auto stream = testing::test_stream();
  Random random(5);
  for (const std::int64_t experts : {3, 64, 130}) {
    for (const std::int64_t inputs : {64, 576, 2048, 2880}) {
      ASSERT_TRUE(gate_takes_bfloat16(inputs));
      expect_right(
          stream, Scene(random, 2100, experts, inputs, Compute::BFloat16, Compute::BFloat16)
      );
    }
  }
  EXPECT_FALSE(gate_takes_bfloat16(300));
}

}  // namespace
}  // namespace pleiad::kernels::cuda
