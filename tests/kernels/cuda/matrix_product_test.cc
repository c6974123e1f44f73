// Also tests: device_matrix.cu
#include "kernels/cuda/matrix_product.h"

#include <memory>
#include <numeric>

#include <gtest/gtest.h>

#include "kernels/gemm.h"
#include "tests/kernels/cuda/device_array.h"
#include "tests/kernels/quantized.h"

// Products on the GPU give the CPU's bits, in every storage format.
namespace pleiad::kernels::cuda {
namespace {

using device::DType;
using kernels::testing::OwnedMatrix;
using testing::DeviceActivations;
using testing::DeviceArray;
using testing::UploadedMatrix;

struct Kind {
  WeightFormat format = WeightFormat::Plain;
  Compute compute = Compute::Float32;
};

// AVX-512 BF16 multiplies pairs in its own way; every other instruction set makes the same chains.
Context cpu(device::ThreadPool& pool, Compute compute) {
  return {
      .pool = &pool,
      .isa = std::min(device::detect_cpu_isa(), device::CpuIsa::Avx512),
      .compute = compute};
}

OwnedMatrix random_matrix(Random& random, Kind kind, std::int64_t outputs, std::int64_t inputs) {
  if (kind.format == WeightFormat::Plain) {
    const auto plain = testing::random_floats(
        random, static_cast<std::size_t>(outputs * inputs), Compute::Float32
    );
    return kernels::testing::pack(plain, outputs, inputs, kind.compute);
  }
  const auto scale_type = random.below(2) == 0 ? DType::F32 : DType::BF16;
  const auto weights = kernels::testing::random_quantized(
      random, kind.format, {.rows = outputs, .columns = inputs, .scale_type = scale_type}
  );
  const MatrixSource source = weights.source();
  return kernels::testing::pack_sources({&source, 1}, kind.compute);
}

class CudaProduct : public ::testing::TestWithParam<Kind> {
 protected:
  // Inputs that the format allows, near `inputs`.
  std::int64_t inputs(std::int64_t inputs) const {
    const bool groups =
        GetParam().format == WeightFormat::Int4Group32 || GetParam().format == WeightFormat::MxFp4;
    return groups ? (inputs + 31) / 32 * 32 : inputs;
  }
  DType activation() const { return testing::activation_of(GetParam().compute); }

  device::ThreadPool pool_{2};
  device::cuda::Stream stream_ = testing::test_stream();
};

TEST_P(CudaProduct, HasTheCpusBitsForEveryShape) {
  Random random(1);
  for (const std::int64_t rows : {1, 2, 15, 16, 17, 50}) {
    const std::int64_t width = inputs(random.between(1, 300));
    const std::int64_t outputs = random.between(1, 200);
    SCOPED_TRACE(::testing::Message() << rows << " x " << width << " -> " << outputs);
    const OwnedMatrix weight = random_matrix(random, GetParam(), outputs, width);
    const UploadedMatrix uploaded(weight.matrix);
    const auto x =
        testing::random_floats(random, static_cast<std::size_t>(rows * width), GetParam().compute);
    const auto bias =
        testing::random_floats(random, static_cast<std::size_t>(outputs), GetParam().compute);
    auto expected = testing::poison(static_cast<std::size_t>(rows * outputs));
    gemm(
        cpu(pool_, GetParam().compute),
        {.x = x.data(),
         .x_stride = width,
         .rows = rows,
         .weight = &weight.matrix,
         .bias = bias.data(),
         .y = expected.data(),
         .y_stride = outputs,
         .round_output = true}
    );
    const DeviceActivations in(x, width, activation());
    const DeviceArray<float> biases(bias);
    const DeviceActivations out(testing::poison(expected.size()), outputs, activation());

    matrix_product(
        stream_,
        {.x = in.rows(),
         .rows = rows,
         .weight = uploaded.matrix(),
         .bias = biases.data(),
         .y = out.rows()}
    );

    EXPECT_TRUE(testing::same_bits(out.values(stream_), expected));
  }
}

TEST_P(CudaProduct, PartialSumsAreAddedPairwise) {
  Random random(2);
  for (const std::int64_t parts : {2, 4}) {
    constexpr std::int64_t kRows = 5;
    constexpr std::int64_t kOutputs = 70;
    const std::int64_t width = parts * 32;
    const OwnedMatrix weight = random_matrix(random, GetParam(), kOutputs, width);
    const UploadedMatrix uploaded(weight.matrix);
    const auto x =
        testing::random_floats(random, static_cast<std::size_t>(kRows * width), GetParam().compute);
    auto expected = testing::poison(kRows * kOutputs);
    gemm(
        cpu(pool_, GetParam().compute),
        {.x = x.data(),
         .x_stride = width,
         .rows = kRows,
         .weight = &weight.matrix,
         .y = expected.data(),
         .y_stride = kOutputs,
         .partial_sums = parts}
    );
    const DeviceActivations in(x, width, activation());
    const DeviceActivations out(testing::poison(expected.size()), kOutputs, DType::F32);

    matrix_product(
        stream_,
        {.x = in.rows(),
         .rows = kRows,
         .weight = uploaded.matrix(),
         .y = out.rows(),
         .partial_sums = parts}
    );

    EXPECT_TRUE(testing::same_bits(out.values(stream_), expected)) << parts;
  }
}

TEST_P(CudaProduct, ExpertsReadTheirOwnRowsAndLeaveTheRestAlone) {
  Random random(3);
  constexpr std::int64_t kExperts = 40;
  constexpr std::int64_t kRows = 90;
  constexpr std::int64_t kOutputs = 65;
  const std::int64_t width = inputs(96);
  std::vector<OwnedMatrix> weights;
  std::vector<std::unique_ptr<UploadedMatrix>> uploaded;
  std::vector<DeviceMatrix> table;
  std::vector<std::int32_t> starts = {0};
  for (std::int64_t e = 0; e < kExperts; ++e) {
    weights.push_back(random_matrix(random, GetParam(), kOutputs, width));
    uploaded.push_back(std::make_unique<UploadedMatrix>(weights.back().matrix));
    table.push_back(uploaded.back()->matrix());
    const auto lines = e % 3 == 0 ? 0 : random.between(0, e == 7 ? 60 : 5);
    starts.push_back(starts.back() + static_cast<std::int32_t>(lines));
  }
  const std::int64_t lines = starts.back();
  const std::int64_t lines_max = lines + 20;
  std::vector<std::int32_t> x_rows(static_cast<std::size_t>(lines_max));
  for (auto& row : x_rows) {
    row = static_cast<std::int32_t>(random.below(kRows));
  }
  const auto x =
      testing::random_floats(random, static_cast<std::size_t>(kRows * width), GetParam().compute);
  const auto bias = testing::random_floats(random, kExperts * kOutputs, GetParam().compute);
  auto expected = testing::poison(static_cast<std::size_t>(lines_max * kOutputs));
  for (std::size_t e = 0; e < kExperts; ++e) {
    const std::int64_t begin = starts[e];
    gemm(
        cpu(pool_, GetParam().compute),
        {.x = x.data(),
         .x_stride = width,
         .x_rows = x_rows.data() + begin,
         .rows = starts[e + 1] - begin,
         .weight = &weights[e].matrix,
         .bias = bias.data() + e * kOutputs,
         .y = expected.data() + begin * kOutputs,
         .y_stride = kOutputs}
    );
  }
  const DeviceActivations in(x, width, activation());
  const DeviceActivations out(testing::poison(expected.size()), kOutputs, DType::F32);
  const DeviceArray<DeviceMatrix> matrices(table);
  const DeviceArray<std::int32_t> first_lines(starts);
  const DeviceArray<std::int32_t> sources(x_rows);
  const DeviceArray<float> biases(bias);

  grouped_product(
      stream_,
      {.x = in.rows(),
       .x_rows = sources.data(),
       .starts = first_lines.data(),
       .lines_max = lines_max,
       .experts = kExperts,
       .weights = matrices.data(),
       .like = table.front(),
       .bias = biases.data(),
       .y = out.rows()}
  );

  EXPECT_TRUE(testing::same_bits(out.values(stream_), expected));
}

TEST_P(CudaProduct, HeadsReadAndWriteTheirOwnColumns) {
  Random random(4);
  constexpr std::int64_t kHeads = 3;
  constexpr std::int64_t kRows = 20;
  constexpr std::int64_t kOutputs = 24;
  const std::int64_t width = inputs(40);
  std::vector<OwnedMatrix> weights;
  std::vector<std::unique_ptr<UploadedMatrix>> uploaded;
  std::vector<DeviceMatrix> table;
  for (std::int64_t h = 0; h < kHeads; ++h) {
    weights.push_back(random_matrix(random, GetParam(), kOutputs, width));
    uploaded.push_back(std::make_unique<UploadedMatrix>(weights.back().matrix));
    table.push_back(uploaded.back()->matrix());
  }
  const auto x = testing::random_floats(
      random, static_cast<std::size_t>(kRows * kHeads * width), GetParam().compute
  );
  auto expected = testing::poison(kRows * kHeads * kOutputs);
  for (std::size_t h = 0; h < kHeads; ++h) {
    gemm(
        cpu(pool_, GetParam().compute),
        {.x = x.data() + static_cast<std::int64_t>(h) * width,
         .x_stride = kHeads * width,
         .rows = kRows,
         .weight = &weights[h].matrix,
         .y = expected.data() + h * kOutputs,
         .y_stride = kHeads * kOutputs,
         .round_output = true}
    );
  }
  const DeviceActivations in(x, kHeads * width, activation());
  const DeviceActivations out(testing::poison(expected.size()), kHeads * kOutputs, activation());
  const DeviceArray<DeviceMatrix> matrices(table);

  batched_product(
      stream_,
      {.x = in.rows(),
       .x_step = width,
       .rows = kRows,
       .weights = matrices.data(),
       .like = table.front(),
       .count = kHeads,
       .y = out.rows(),
       .y_step = kOutputs}
  );

  EXPECT_TRUE(testing::same_bits(out.values(stream_), expected));
}

INSTANTIATE_TEST_SUITE_P(
    Formats,
    CudaProduct,
    ::testing::Values(
        Kind{WeightFormat::Plain, Compute::Float32},
        Kind{WeightFormat::Plain, Compute::BFloat16},
        Kind{WeightFormat::Fp8Block, Compute::Float32},
        Kind{WeightFormat::Fp8Block, Compute::BFloat16},
        Kind{WeightFormat::Int8Channel, Compute::Float32},
        Kind{WeightFormat::Int8Channel, Compute::BFloat16},
        Kind{WeightFormat::Int4Group32, Compute::BFloat16},
        Kind{WeightFormat::MxFp4, Compute::BFloat16}
    )
);

TEST(CudaProduct, RowsThatAreNotFiniteAreNanUnderInt8) {
  Random random(5);
  const OwnedMatrix weight = random_matrix(random, {.format = WeightFormat::Int8Channel}, 8, 64);
  const UploadedMatrix uploaded(weight.matrix);
  std::vector<float> x(3 * 64, 1.0F);
  x[70] = INFINITY;
  const DeviceActivations in(x, 64, DType::F32);
  const DeviceActivations out(testing::poison(3 * 8), 8, DType::F32);
  auto stream = testing::test_stream();

  matrix_product(stream, {.x = in.rows(), .rows = 3, .weight = uploaded.matrix(), .y = out.rows()});

  const auto y = out.values(stream);
  EXPECT_TRUE(std::isfinite(y[0]));
  EXPECT_TRUE(std::isnan(y[8]));
  EXPECT_TRUE(std::isfinite(y[16]));
}

TEST(CudaFillRandom, IsTheSameForASeedAndAsWideAsWanted) {
  auto stream = testing::test_stream();
  const PanelLayout layout{.compute = Compute::Float32, .inputs = 100};
  const DeviceArray<float> memory(testing::poison(50 * 100));
  const DeviceMatrix matrix =
      plan_device_matrix(50, layout, reinterpret_cast<std::byte*>(memory.data()));
  fill_random(stream, matrix, 0.5F, 7);
  const auto first = memory.values(stream);
  fill_random(stream, matrix, 0.5F, 7);
  EXPECT_TRUE(testing::same_bits(memory.values(stream), first));
  double square = 0.0;
  for (const float value : first) {
    square += static_cast<double>(value) * static_cast<double>(value);
  }
  EXPECT_NEAR(std::sqrt(square / 5000.0), 0.5, 0.02);
}

}  // namespace
}  // namespace pleiad::kernels::cuda
