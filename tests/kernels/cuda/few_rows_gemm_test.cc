#include "kernels/cuda/few_rows_gemm.h"

#include <gtest/gtest.h>

#include "kernels/cuda/matrix_product.h"
#include "tests/kernels/cuda/device_array.h"

namespace pleiad::kernels::cuda {
namespace {

using device::DType;
using testing::DeviceActivations;

struct Shape {
  std::int64_t outputs = 0;
  std::int64_t inputs = 0;
};

// A matrix of noise and rows of noise.
struct Scene {
  explicit Scene(const Shape& shape, std::int64_t count = 1)
      : memory(device::cuda::DeviceBuffer::allocate(
                   static_cast<std::size_t>(count * shape.outputs * shape.inputs * 2),
                   "a test"
        )
                   .value()),
        x_values(testing::random_floats(
            random,
            static_cast<std::size_t>(kFewRowsMax * count * shape.inputs),
            Compute::BFloat16
        )),
        x(x_values, count * shape.inputs, DType::BF16),
        weight(matrix(shape.outputs, shape.inputs, 0)) {
    fill_random(stream, matrix(count * shape.outputs, shape.inputs, 0), 0.1F, 3);
  }

  [[nodiscard]] DeviceMatrix matrix(std::int64_t outputs, std::int64_t inputs, std::int64_t index)
      const {
    return plan_device_matrix(
        outputs,
        {.compute = Compute::BFloat16, .inputs = inputs},
        memory.data() + index * outputs * inputs * 2
    );
  }

  device::cuda::Stream stream = testing::test_stream();
  Random random{1};
  device::cuda::DeviceBuffer memory;
  std::vector<float> x_values;
  DeviceActivations x;
  DeviceMatrix weight;
};

TEST(CudaFewRowsGemm, IsNearTheReferenceAndARowHasTheSameBitsInEveryBatch) {
  for (const Shape shape :
       {Shape{8, 64}, Shape{40, 128}, Shape{2048, 4096}, Shape{5120, 2048}, Shape{576, 7168}}) {
    for (const DType dtype : {DType::F32, DType::BF16}) {
      Scene scene(shape);
      const auto count = static_cast<std::size_t>(kFewRowsMax * shape.outputs);
      const DeviceActivations slow(testing::poison(count), shape.outputs, dtype);
      matrix_product(
          scene.stream,
          {.x = scene.x.rows(), .rows = kFewRowsMax, .weight = scene.weight, .y = slow.rows()}
      );
      const auto expected = slow.values(scene.stream);
      std::vector<float> all;
      for (const std::int64_t rows : {64, 63, 33, 32, 17, 9, 8, 5, 1}) {
        const DeviceActivations fast(testing::poison(count), shape.outputs, dtype);
        few_rows_gemm(
            scene.stream,
            {.x = scene.x.rows(), .rows = rows, .weight = scene.weight, .y = fast.rows()}
        );
        const auto values = fast.values(scene.stream);
        if (all.empty()) all = values;
        const auto used = static_cast<std::size_t>(rows * shape.outputs);
        EXPECT_TRUE(testing::same_bits(std::span(values).first(used), std::span(all).first(used)))
            << rows << " rows, " << shape.outputs << " x " << shape.inputs;
        // The rows behind stay as they are.
        const auto untouched =
            DeviceActivations(testing::poison(count), shape.outputs, dtype).values(scene.stream);
        EXPECT_TRUE(
            testing::same_bits(std::span(values).subspan(used), std::span(untouched).subspan(used))
        );
      }
      EXPECT_LE(testing::largest_difference(all, expected), dtype == DType::F32 ? 5e-3F : 0.3F);
    }
  }
}

TEST(CudaFewRowsGemm, HeadsReadAndWriteTheirOwnColumns) {
  constexpr std::int64_t kHeads = 5;
  constexpr Shape kShape{72, 128};
  constexpr std::int64_t kRows = 6;
  Scene scene(kShape, kHeads);
  const std::int64_t width = kHeads * kShape.outputs;
  const DeviceActivations together(testing::poison(kRows * width), width, DType::F32);
  few_rows_gemm(
      scene.stream,
      {.x = scene.x.rows(),
       .rows = kRows,
       .weight = scene.weight,
       .y = together.rows(),
       .count = kHeads,
       .weight_step = kShape.outputs * kShape.inputs,
       .x_step = kShape.inputs,
       .y_step = kShape.outputs}
  );
  const DeviceActivations apart(testing::poison(kRows * width), width, DType::F32);
  for (std::int64_t h = 0; h < kHeads; ++h) {
    few_rows_gemm(
        scene.stream,
        {.x = scene.x.rows().from(h * kShape.inputs),
         .rows = kRows,
         .weight = scene.matrix(kShape.outputs, kShape.inputs, h),
         .y = apart.rows().from(h * kShape.outputs)}
    );
  }
  EXPECT_TRUE(testing::same_bits(together.values(scene.stream), apart.values(scene.stream)));
}

}  // namespace
}  // namespace pleiad::kernels::cuda
