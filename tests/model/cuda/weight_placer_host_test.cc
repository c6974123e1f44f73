#include <gtest/gtest.h>

#include "model/cuda/weight_placer.h"

namespace pleiad::model::cuda {
namespace {

using device::DType;
using kernels::Compute;
using kernels::MatrixSource;
using kernels::PackedMatrix;

// How a gate of [32, inputs], stored as `dtype`, lies beside rows of `activations`.
Compute gate_type(std::int64_t inputs, DType dtype, Compute activations, bool transposed = false) {
  constexpr std::int64_t kExperts = 32;
  const std::vector<std::byte> bytes(
      static_cast<std::size_t>(kExperts * inputs) * device::size_of(dtype)
  );
  const auto lines = transposed ? inputs : kExperts;
  const auto width = transposed ? kExperts : inputs;
  MatrixSource source;
  source.tensor = {.bytes = bytes, .dtype = dtype, .shape = {.extents = {lines, width}, .rank = 2}};
  source.transposed = transposed;
  const std::vector<MatrixSource> sources = {source};
  const PackedMatrix gate = PackedMatrix::plan(sources, Compute::Float32).value();
  const WeightPlacer::Origins origins{{&gate, {.names = "gate", .sources = sources}}};
  return WeightPlacer(origins).gate(gate, activations).compute;
}

TEST(WeightPlacer, KeepsAGateInBFloat16WhereNothingIsLost) {
  EXPECT_EQ(gate_type(128, DType::BF16, Compute::BFloat16), Compute::BFloat16);
  EXPECT_EQ(gate_type(128, DType::F32, Compute::BFloat16), Compute::Float32);
  EXPECT_EQ(gate_type(128, DType::BF16, Compute::Float32), Compute::Float32);
  EXPECT_EQ(gate_type(100, DType::BF16, Compute::BFloat16), Compute::Float32);
  EXPECT_EQ(gate_type(128, DType::BF16, Compute::BFloat16, true), Compute::Float32);
}

}  // namespace
}  // namespace pleiad::model::cuda
