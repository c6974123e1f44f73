#include "kernels/cuda/row_ops.h"

#include <numeric>

#include <gtest/gtest.h>

#include "kernels/row_ops.h"
#include "tests/kernels/cuda/device_array.h"

namespace pleiad::kernels::cuda {
namespace {

using device::DType;
using testing::DeviceActivations;
using testing::DeviceArray;

constexpr std::array kComputes = {Compute::Float32, Compute::BFloat16};

// What two ways of adding, or one rounding the other way, may differ by.
float tolerance(Compute compute) {
  return compute == Compute::Float32 ? 2e-5F : 0.04F;
}

std::vector<float> normal(Random& random, std::int64_t count, Compute compute) {
  return testing::random_floats(random, static_cast<std::size_t>(count), compute);
}

TEST(CudaRmsNorm, MatchesTheReferenceOnEveryWidth) {
  auto stream = testing::test_stream();
  Random random(1);
  for (const Compute compute : kComputes) {
    for (const std::int64_t width : {1, 7, 64, 128, 257, 1025, 4096}) {
      constexpr std::int64_t kRows = 5;
      constexpr std::int64_t kHeads = 3;
      const auto x = normal(random, kRows * kHeads * width, compute);
      const auto weight = normal(random, width, Compute::Float32);
      auto expected = testing::poison(x.size());
      rms_norm_reference(
          compute,
          {.x = x.data(),
           .x_stride = kHeads * width,
           .rows = kRows,
           .heads = kHeads,
           .width = width,
           .weight = weight.data(),
           .y = expected.data(),
           .y_stride = kHeads * width}
      );
      const DType dtype = testing::activation_of(compute);
      const DeviceActivations rows(x, kHeads * width, dtype);
      const DeviceArray<float> weights(weight);

      rms_norm(
          stream,
          {.x = rows.rows(),
           .rows = kRows,
           .heads = kHeads,
           .width = width,
           .weight = weights.data(),
           .y = rows.rows()}
      );

      EXPECT_LE(testing::largest_difference(rows.values(stream), expected), tolerance(compute))
          << width;
    }
  }
}

TEST(CudaRmsNorm, TakesUpWhatIsToBeAddedFirst) {
  auto stream = testing::test_stream();
  Random random(2);
  constexpr std::int64_t kRows = 4;
  constexpr std::int64_t kWidth = 300;
  const auto residual = normal(random, kRows * kWidth, Compute::Float32);
  const auto delta = normal(random, kRows * kWidth, Compute::BFloat16);
  const auto weight = normal(random, kWidth, Compute::Float32);
  const DeviceActivations sums(residual, kWidth, DType::F32);
  const DeviceActivations fused(residual, kWidth, DType::F32);
  const DeviceActivations kept(residual, kWidth, DType::F32);
  const DeviceActivations added(delta, kWidth, DType::BF16);
  const DeviceActivations apart(testing::poison(delta.size()), kWidth, DType::BF16);
  const DeviceActivations together(testing::poison(delta.size()), kWidth, DType::BF16);
  const DeviceArray<float> weights(weight);

  add_rows(
      stream,
      {.x = added.rows(),
       .rows = kRows,
       .width = kWidth,
       .sum = static_cast<float*>(sums.rows().data)}
  );
  rms_norm(
      stream,
      {.x = sums.rows(),
       .rows = kRows,
       .width = kWidth,
       .weight = weights.data(),
       .y = apart.rows()}
  );
  rms_norm(
      stream,
      {.x = fused.rows(),
       .add = added.rows(),
       .rows = kRows,
       .width = kWidth,
       .weight = weights.data(),
       .y = together.rows()}
  );

  EXPECT_TRUE(testing::same_bits(fused.values(stream), sums.values(stream)));
  EXPECT_TRUE(testing::same_bits(together.values(stream), apart.values(stream)));

  rms_norm(
      stream,
      {.x = kept.rows(),
       .add = added.rows(),
       .keeps_x = true,
       .rows = kRows,
       .width = kWidth,
       .weight = weights.data(),
       .y = together.rows()}
  );

  EXPECT_TRUE(testing::same_bits(kept.values(stream), residual));
  EXPECT_TRUE(testing::same_bits(together.values(stream), apart.values(stream)));
}

TEST(CudaRmsNorm, PicksRowsByIndex) {
  auto stream = testing::test_stream();
  Random random(3);
  const auto x = normal(random, 6 * 32, Compute::Float32);
  const std::vector<float> weight(32, 1.0F);
  const DeviceActivations in(x, 32, DType::F32);
  const DeviceActivations all(testing::poison(6 * 32), 32, DType::F32);
  const DeviceActivations some(testing::poison(2 * 32), 32, DType::F32);
  const DeviceArray<float> weights(weight);
  const DeviceArray<std::int32_t> index(std::vector<std::int32_t>{4, 1});
  const RmsNormTask task{.x = in.rows(), .rows = 6, .width = 32, .weight = weights.data()};
  RmsNormTask whole = task;
  whole.y = all.rows();
  RmsNormTask picked = task;
  picked.rows = 2;
  picked.row_index = index.data();
  picked.y = some.rows();

  rms_norm(stream, whole);
  rms_norm(stream, picked);

  const auto every = all.values(stream);
  const auto two = some.values(stream);
  EXPECT_TRUE(testing::same_bits(std::span(two).first(32), std::span(every).subspan(128, 32)));
  EXPECT_TRUE(testing::same_bits(std::span(two).last(32), std::span(every).subspan(32, 32)));
}

TEST(CudaSwiglu, MatchesTheReferenceWithAndWithoutALimit) {
  auto stream = testing::test_stream();
  Random random(4);
  for (const Compute compute : kComputes) {
    for (const float limit : {0.0F, 1.5F}) {
      constexpr std::int64_t kRows = 7;
      constexpr std::int64_t kWidth = 130;
      const auto x = normal(random, kRows * 2 * kWidth, compute);
      auto expected = testing::poison(kRows * kWidth);
      if (limit > 0.0F) {
        clamped_swiglu_reference(compute, {x.data(), kRows, kWidth, limit, expected.data()});
      } else {
        silu_mul_reference(compute, {x.data(), kRows, kWidth, expected.data()});
      }
      for (const DType in_type : {DType::F32, testing::activation_of(compute)}) {
        const DeviceActivations in(x, 2 * kWidth, in_type);
        const DeviceActivations out(
            testing::poison(expected.size()), kWidth, testing::activation_of(compute)
        );

        swiglu(
            stream,
            {.gate_up = in.rows(), .rows = kRows, .width = kWidth, .limit = limit, .y = out.rows()}
        );

        EXPECT_LE(testing::largest_difference(out.values(stream), expected), tolerance(compute));
      }
    }
  }
}

TEST(CudaEmbedRows, CopiesLinesOfEveryType) {
  auto stream = testing::test_stream();
  Random random(5);
  constexpr std::int64_t kWidth = 70;
  const auto table = normal(random, 9 * kWidth, Compute::BFloat16);
  const DeviceArray<std::int32_t> ids(std::vector<std::int32_t>{8, 0, 3});
  for (const DType dtype : {DType::F32, DType::BF16}) {
    const DeviceActivations lines(table, kWidth, dtype);
    const DeviceArray<float> y(testing::poison(3 * kWidth));
    embed_rows(
        stream,
        {.table = lines.rows().data,
         .table_dtype = dtype,
         .ids = ids.data(),
         .rows = 3,
         .width = kWidth,
         .y = y.data()}
    );
    const auto out = y.values(stream);
    EXPECT_TRUE(testing::same_bits(
        std::span(out).first(kWidth), std::span(table).subspan(8 * kWidth, kWidth)
    ));
    EXPECT_TRUE(testing::same_bits(
        std::span(out).last(kWidth), std::span(table).subspan(3 * kWidth, kWidth)
    ));
  }
}

}  // namespace
}  // namespace pleiad::kernels::cuda
