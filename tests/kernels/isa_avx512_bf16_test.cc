#include <array>
#include <cstring>

#include <gtest/gtest.h>

#include "kernels/detail/isa_kernels.h"
#include "tests/kernels/support.h"

// The products of BF16 pairs, whose rounding is the instruction's own.
namespace pleiad::kernels::detail {
namespace {

const IsaKernels* kernels_or_null() {
  const bool runs = device::detect_cpu_isa() == device::CpuIsa::Avx512Bf16;
  return runs ? &kernels_of(device::CpuIsa::Avx512Bf16) : nullptr;
}

constexpr std::int64_t kRows = 37;
constexpr std::int64_t kOutputs = 70;

struct Product {
  Product(Random& random, std::int64_t inputs_given)
      : inputs(inputs_given),
        x(testing::random_floats(
            random,
            static_cast<std::size_t>(kRows * inputs),
            Compute::BFloat16
        )),
        weight(testing::pack(
            testing::random_floats(
                random,
                static_cast<std::size_t>(kOutputs * inputs),
                Compute::BFloat16
            ),
            kOutputs,
            inputs,
            Compute::BFloat16
        )) {}

  [[nodiscard]] std::vector<float>
  run(const IsaKernels& kernels, std::int64_t first, std::int64_t rows) const {
    auto y = testing::poison(static_cast<std::size_t>(rows * kOutputs));
    kernels.gemm_bf16({
        .x = x.data() + first * inputs,
        .x_stride = inputs,
        .rows = rows,
        .weight = weight.matrix.panel(0),
        .panel_step = static_cast<std::int64_t>(weight.matrix.panel_bytes()),
        .inputs = inputs,
        .outputs = kOutputs,
        .y = y.data(),
        .y_stride = kOutputs,
    });
    return y;
  }

  std::int64_t inputs;
  std::vector<float> x;
  testing::OwnedMatrix weight;
};

TEST(Avx512Bf16, GivesARowTheSameBitsForEveryNumberOfRows) {
  const IsaKernels* kernels = kernels_or_null();
  if (kernels == nullptr) GTEST_SKIP() << "this processor has no AVX-512 BF16";
  Random random(1);
  for (const std::int64_t inputs : {1, 2, 31, 512, 513, 1024, 3001, 30'001}) {
    const Product product(random, inputs);
    const auto whole = product.run(*kernels, 0, kRows);
    for (const std::int64_t rows : {1, 2, 3, 4, 5, 11, 12, 13, 24, 36}) {
      const auto part = product.run(*kernels, kRows - rows, rows);
      const auto expected = std::span(whole).last(part.size());
      EXPECT_TRUE(testing::same_bits(part, expected)) << inputs << " inputs, " << rows << " rows";
    }
  }
}

TEST(Avx512Bf16, AgreesWithThePlainProductWithinRounding) {
  const IsaKernels* kernels = kernels_or_null();
  if (kernels == nullptr) GTEST_SKIP() << "this processor has no AVX-512 BF16";
  Random random(2);
  const Product product(random, 2047);

  const auto pairs = product.run(*kernels, 0, kRows);
  const auto plain = product.run(kernels_of(device::CpuIsa::Portable), 0, kRows);

  EXPECT_LE(testing::largest_difference(pairs, plain), 1e-3F);
}

}  // namespace
}  // namespace pleiad::kernels::detail
