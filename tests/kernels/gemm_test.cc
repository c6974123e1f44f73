#include "kernels/gemm.h"

#include <memory>
#include <tuple>

#include <gtest/gtest.h>

#include "tests/kernels/support.h"

namespace pleiad::kernels {
namespace {

using device::CpuIsa;
using testing::OwnedMatrix;
using testing::same_bits;

// A product with everything it needs; y lies in lines wider than the outputs.
struct Product {
  std::vector<float> x;
  std::vector<float> plain;  // the weight, [outputs, inputs]
  std::vector<float> bias;   // [outputs], used where a test says so
  OwnedMatrix weight;
  GemmTask task;
  std::vector<float> y;

  std::span<const float> row(std::int64_t r) const {
    return std::span<const float>(y).subspan(
        static_cast<std::size_t>(r * task.y_stride),
        static_cast<std::size_t>(task.weight->outputs())
    );
  }
};

constexpr std::int64_t kPad = 3;

struct Dims {
  std::int64_t rows;
  std::int64_t outputs;
  std::int64_t inputs;
};

// Boxed: the task points into it.
std::unique_ptr<Product> random_product(Random& random, Dims dims, Compute compute) {
  auto product = std::make_unique<Product>();
  const auto [rows, outputs, inputs] = dims;
  const std::int64_t x_stride = inputs + kPad;
  product->x = testing::random_floats(random, static_cast<std::size_t>(rows * x_stride), compute);
  product->plain =
      testing::random_floats(random, static_cast<std::size_t>(outputs * inputs), Compute::Float32);
  product->weight = testing::pack(product->plain, outputs, inputs, compute);
  product->bias = testing::random_floats(random, static_cast<std::size_t>(outputs), compute);
  product->y = testing::poison(static_cast<std::size_t>(rows * (outputs + kPad)));
  product->task = {
      .x = product->x.data(),
      .x_stride = x_stride,
      .rows = rows,
      .weight = &product->weight.matrix,
      .y = product->y.data(),
      .y_stride = outputs + kPad,
  };
  return product;
}

// The same product with fresh outputs.
std::vector<float>
run(const Context& context, const Product& product, std::int64_t first, std::int64_t rows) {
  GemmTask task = product.task;
  std::vector<float> y = testing::poison(product.y.size());
  if (task.x_rows != nullptr) {
    task.x_rows += first;
  } else {
    task.x += first * task.x_stride;
  }
  task.rows = rows;
  task.y = y.data();
  gemm(context, task);
  return y;
}

std::vector<float> reference(const Product& product) {
  GemmTask task = product.task;
  std::vector<float> y = testing::poison(product.y.size());
  task.y = y.data();
  gemm_reference(task);
  return y;
}

// Whether `isa` promises the reference's bits.
bool exact(CpuIsa isa, Compute compute) {
  return compute == Compute::Float32 || isa != CpuIsa::Avx512Bf16;
}

void expect_matches(const Product& product, std::span<const float> y, CpuIsa isa, Compute compute) {
  const auto expected = reference(product);
  if (exact(isa, compute)) {
    EXPECT_TRUE(same_bits(y, expected)) << "isa " << device::to_string(isa);
    return;
  }
  // Padding stays untouched; sums of normal numbers stay within a few roundings of each other.
  const auto width = static_cast<std::size_t>(product.task.y_stride);
  const double size = std::sqrt(static_cast<double>(product.task.weight->inputs()));
  for (std::size_t i = 0; i < y.size(); ++i) {
    if (i % width >= width - kPad) continue;
    if (std::isnan(expected[i])) {
      ASSERT_TRUE(std::isnan(y[i])) << "written beyond its rows, at " << i;
      continue;
    }
    const double tolerance = product.task.round_output ? 0.05 * size : 1e-4 * size;
    ASSERT_NEAR(y[i], expected[i], tolerance) << "at " << i;
  }
}

class GemmOn : public ::testing::TestWithParam<std::tuple<CpuIsa, Compute>> {
 protected:
  Context context(device::ThreadPool& pool) const {
    return {.pool = &pool, .isa = std::get<0>(GetParam()), .compute = std::get<1>(GetParam())};
  }
  CpuIsa isa() const { return std::get<0>(GetParam()); }
  Compute compute() const { return std::get<1>(GetParam()); }
};

TEST_P(GemmOn, MatchesTheReferenceForEveryTile) {
  device::ThreadPool pool(2);
  Random random(3);
  for (std::int64_t rows = 1; rows <= 30; ++rows) {
    const Dims dims = {rows, random.between(1, 200), random.between(1, 70)};
    auto product = random_product(random, dims, compute());
    product->task.round_output = rows % 2 == 0;
    if (rows % 3 == 0) product->task.bias = product->bias.data();
    SCOPED_TRACE(::testing::Message() << rows << " x " << dims.outputs << " x " << dims.inputs);

    expect_matches(*product, run(context(pool), *product, 0, rows), isa(), compute());
  }
}

TEST_P(GemmOn, MatchesTheReferenceAcrossBlocksOfInputs) {
  device::ThreadPool pool(2);
  Random random(4);
  for (const Dims dims : {Dims{1, 33, 3001}, {3, 20, 9001}, {13, 50, 2049}, {61, 17, 1027}}) {
    const auto product = random_product(random, dims, compute());
    SCOPED_TRACE(
        ::testing::Message() << dims.rows << " x " << dims.outputs << " x " << dims.inputs
    );

    expect_matches(*product, run(context(pool), *product, 0, dims.rows), isa(), compute());
  }
}

TEST_P(GemmOn, AddsPartialSumsPairwiseAsIfComputedApart) {
  const auto [isa, compute] = GetParam();
  device::ThreadPool pool(2);
  const Context context{&pool, isa, compute};
  Random random(17);
  for (const std::int64_t parts : {2, 4}) {
    for (const Dims dims : {Dims{1, 150, 64}, {5, 16, 16}, {60, 300, 128}}) {
      auto product = random_product(random, dims, compute);
      product->task.partial_sums = parts;
      if (parts == 4) product->task.bias = product->bias.data();
      const auto y = run(context, *product, 0, dims.rows);
      product->y = y;
      if (exact(isa, compute)) {
        EXPECT_TRUE(same_bits(y, reference(*product))) << parts << " parts, " << dims.rows;
      }

      // The same by products of the parts alone.
      std::vector<std::vector<float>> sums;
      const std::int64_t part = dims.inputs / parts;
      for (std::int64_t p = 0; p < parts; ++p) {
        const auto block = testing::pack_columns(
            product->plain, {dims.outputs, dims.inputs, p * part, part}, compute
        );
        GemmTask task = product->task;
        task.partial_sums = 1;
        task.bias = p == 0 ? product->task.bias : nullptr;
        task.weight = &block.matrix;
        task.x += p * part;
        sums.push_back(testing::poison(product->y.size()));
        task.y = sums.back().data();
        gemm(context, task);
      }
      for (std::int64_t r = 0; r < dims.rows; ++r) {
        for (std::int64_t o = 0; o < dims.outputs; ++o) {
          const auto at = static_cast<std::size_t>(r * product->task.y_stride + o);
          const float low = sums[0][at] + sums[1][at];
          const float whole = parts == 2 ? low : low + (sums[2][at] + sums[3][at]);
          ASSERT_EQ(y[at], whole);
        }
      }
    }
  }
}

TEST_P(GemmOn, ReadsTheRowsItIsTold) {
  device::ThreadPool pool(2);
  Random random(5);
  auto product = random_product(random, {100, 40, 50}, compute());
  std::vector<std::int32_t> lines(70);
  for (std::int32_t& line : lines) {
    line = static_cast<std::int32_t>(random.below(100));
  }
  product->task.x_rows = lines.data();
  product->task.rows = 70;

  expect_matches(*product, run(context(pool), *product, 0, 70), isa(), compute());
}

TEST_P(GemmOn, GivesARowTheSameBitsInAnyCompany) {
  Random random(6);
  const auto product = random_product(random, {67, 90, 1501}, compute());
  device::ThreadPool alone(1);
  const auto width = static_cast<std::size_t>(product->task.y_stride);
  const auto outputs = std::size_t{90};

  product->y = run(context(alone), *product, 0, 67);

  for (int workers = 1; workers <= 4; ++workers) {
    device::ThreadPool pool(workers);
    EXPECT_TRUE(same_bits(run(context(pool), *product, 0, 67), product->y)) << workers;
    for (const std::int64_t rows : {1, 2, 3, 5, 7, 12, 15}) {
      const std::int64_t first = random.between(0, 67 - rows);
      const auto y = run(context(pool), *product, first, rows);
      for (std::int64_t r = 0; r < rows; ++r) {
        const auto got = std::span(y).subspan(static_cast<std::size_t>(r) * width, outputs);
        ASSERT_TRUE(same_bits(got, product->row(first + r))) << rows << " rows, row " << r;
      }
    }
  }
}

TEST_P(GemmOn, RunsManyTasksTogether) {
  device::ThreadPool pool(2);
  Random random(7);
  std::vector<std::unique_ptr<Product>> products;
  std::vector<GemmTask> tasks;
  for (int i = 0; i < 300; ++i) {
    products.push_back(random_product(
        random, {random.between(0, 3), random.between(1, 64), random.between(1, 64)}, compute()
    ));
    tasks.push_back(products.back()->task);
  }

  grouped_gemm(context(pool), tasks);

  for (const auto& product : products) {
    expect_matches(*product, product->y, isa(), compute());
  }
}

TEST_P(GemmOn, DoesNothingWithoutRows) {
  device::ThreadPool pool(2);
  Random random(8);
  const auto product = random_product(random, {0, 5, 5}, compute());

  gemm(context(pool), product->task);
  grouped_gemm(context(pool), {});
}

TEST_P(GemmOn, KeepsNotANumberInItsRow) {
  device::ThreadPool pool(1);
  Random random(9);
  const auto product = random_product(random, {20, 33, 40}, compute());
  const auto clean = run(context(pool), *product, 0, 20);
  product->x[static_cast<std::size_t>(7 * product->task.x_stride + 3)] = std::nanf("");

  const auto y = run(context(pool), *product, 0, 20);

  const std::size_t width = 33 + kPad;
  for (std::size_t r = 0; r < 20; ++r) {
    const auto got = std::span(y).subspan(r * width, 33);
    if (r == 7) {
      EXPECT_TRUE(std::isnan(got[0]) && std::isnan(got[32]));
    } else {
      EXPECT_TRUE(same_bits(got, std::span(clean).subspan(r * width, 33))) << r;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Isas,
    GemmOn,
    ::testing::Combine(
        ::testing::ValuesIn(testing::runnable_isas()),
        ::testing::Values(Compute::Float32, Compute::BFloat16)
    ),
    [](const auto& one) {
      const bool floats = std::get<1>(one.param) == Compute::Float32;
      return std::string(device::to_string(std::get<0>(one.param))) + (floats ? "_f32" : "_bf16");
    }
);

}  // namespace
}  // namespace pleiad::kernels
