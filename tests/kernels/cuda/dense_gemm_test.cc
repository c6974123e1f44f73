#include "kernels/cuda/dense_gemm.h"

#include <gtest/gtest.h>

#include "kernels/cuda/matrix_product.h"
#include "tests/kernels/cuda/device_array.h"

namespace pleiad::kernels::cuda {
namespace {

using device::DType;
using testing::DeviceActivations;
using testing::DeviceArray;

DeviceMatrix dense_matrix(std::int64_t outputs, std::int64_t inputs, std::byte* memory) {
  return plan_device_matrix(outputs, {.compute = Compute::BFloat16, .inputs = inputs}, memory);
}

// Some shapes of large checkpoints, and small ones.
class CudaDenseGemm : public ::testing::TestWithParam<std::pair<std::int64_t, std::int64_t>> {};

// DESIGN R1: a row's bits are the same in every bucket, alone or among others.
TEST_P(CudaDenseGemm, ARowHasTheSameBitsInEveryBucketAndIsRight) {
  const auto [outputs, inputs] = GetParam();
  constexpr std::int64_t kRowsMax = 2048;
  auto stream = testing::test_stream();
  const auto bytes = static_cast<std::size_t>(outputs * inputs * 2);
  const auto memory = device::cuda::DeviceBuffer::allocate(bytes, "a test").value();
  const DeviceMatrix weight = dense_matrix(outputs, inputs, memory.data());
  fill_random(stream, weight, 0.05F, 1);
  const auto rows_memory = device::cuda::DeviceBuffer::allocate(
                               static_cast<std::size_t>(kRowsMax * inputs * 2), "a test"
  )
                               .value();
  fill_random(stream, dense_matrix(kRowsMax, inputs, rows_memory.data()), 1.0F, 2);
  const DeviceRows x{.data = rows_memory.data(), .stride = inputs, .dtype = DType::BF16};
  const DeviceActivations right(
      testing::poison(static_cast<std::size_t>(outputs)), outputs, DType::F32
  );
  matrix_product(stream, {.x = x, .rows = 1, .weight = weight, .y = right.rows()});
  const auto expected = right.values(stream);

  DenseGemm dense = DenseGemm::create().value();
  for (const DType dtype : {DType::F32, DType::BF16}) {
    const auto shape = dense.prepare(
        {.outputs = outputs,
         .inputs = inputs,
         .x_stride = inputs,
         .y_stride = outputs,
         .y_dtype = dtype},
        kRowsMax
    );
    ASSERT_TRUE(shape.ok()) << shape.error().message;
    RecordProperty("parts", dense.parts(*shape));
    std::vector<std::byte> first;
    for (const std::int64_t rows : dense_row_buckets()) {
      if (rows > kRowsMax) break;
      const auto line = static_cast<std::size_t>(outputs) * device::size_of(dtype);
      const DeviceArray<std::byte> out(
          std::vector<std::byte>(static_cast<std::size_t>(rows) * line, std::byte{0xFF})
      );
      dense.run(stream, *shape, rows, weight, x, {out.data(), outputs, dtype});
      auto y = out.values(stream);
      y.resize(line);
      if (first.empty()) first = y;
      EXPECT_TRUE(y == first) << rows << " rows, " << dense.parts(*shape) << " parts";
    }
    if (dtype == DType::BF16) continue;
    const std::span row(reinterpret_cast<const float*>(first.data()), expected.size());
    EXPECT_LE(testing::largest_difference(row, expected), 2e-3F);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Shapes,
    CudaDenseGemm,
    ::testing::Values(
        std::pair<std::int64_t, std::int64_t>{64, 128},
        std::pair<std::int64_t, std::int64_t>{5120, 2048},
        std::pair<std::int64_t, std::int64_t>{2048, 4096},
        std::pair<std::int64_t, std::int64_t>{4096, 7168},
        std::pair<std::int64_t, std::int64_t>{7168, 2048},
        std::pair<std::int64_t, std::int64_t>{2048, 10944}
    )
);

TEST(CudaDenseGemm, HeadsReadAndWriteTheirOwnColumns) {
  auto stream = testing::test_stream();
  constexpr std::int64_t kHeads = 4;
  constexpr std::int64_t kOutputs = 128;
  constexpr std::int64_t kInputs = 64;
  constexpr std::int64_t kRows = 6;
  const auto memory =
      device::cuda::DeviceBuffer::allocate(kHeads * kOutputs * kInputs * 2, "a test").value();
  const DeviceMatrix all = dense_matrix(kHeads * kOutputs, kInputs, memory.data());
  fill_random(stream, all, 0.1F, 3);
  std::vector<DeviceMatrix> heads;
  for (std::int64_t h = 0; h < kHeads; ++h) {
    heads.push_back(dense_matrix(kOutputs, kInputs, memory.data() + h * kOutputs * kInputs * 2));
  }
  Random random(4);
  const auto x = testing::random_floats(random, 8 * kHeads * kInputs, Compute::BFloat16);
  const DeviceActivations in(x, kHeads * kInputs, DType::BF16);
  const DeviceActivations slow(
      testing::poison(8 * kHeads * kOutputs), kHeads * kOutputs, DType::F32
  );
  const DeviceActivations fast(
      testing::poison(8 * kHeads * kOutputs), kHeads * kOutputs, DType::F32
  );
  const DeviceArray<DeviceMatrix> table(heads);

  batched_product(
      stream,
      {.x = in.rows(),
       .x_step = kInputs,
       .rows = kRows,
       .weights = table.data(),
       .like = heads.front(),
       .count = kHeads,
       .y = slow.rows(),
       .y_step = kOutputs}
  );
  DenseGemm dense = DenseGemm::create().value();
  const auto shape = dense.prepare(
      {.outputs = kOutputs,
       .inputs = kInputs,
       .x_stride = kHeads * kInputs,
       .y_stride = kHeads * kOutputs,
       .y_dtype = DType::F32,
       .count = kHeads,
       .weight_step = kOutputs * kInputs,
       .x_step = kInputs,
       .y_step = kOutputs},
      64
  );
  ASSERT_TRUE(shape.ok()) << shape.error().message;
  dense.run(stream, *shape, kRows, heads.front(), in.rows(), fast.rows());

  const auto expected = slow.values(stream);
  const auto actual = fast.values(stream);
  const auto count = static_cast<std::size_t>(kRows * kHeads * kOutputs);
  EXPECT_LE(
      testing::largest_difference(std::span(actual).first(count), std::span(expected).first(count)),
      1e-4F
  );
}

}  // namespace
}  // namespace pleiad::kernels::cuda
