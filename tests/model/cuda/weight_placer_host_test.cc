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
  MatrixSource source;
  source.tensor.dtype = dtype;
  source.tensor.shape = {
      .extents = {transposed ? inputs : 32, transposed ? 32 : inputs}, .rank = 2};
  source.transposed = transposed;
  const PackedMatrix gate = PackedMatrix::plan(std::vector{source}, Compute::Float32).value();
  const WeightPlacer::Origins origins{{&gate, {.names = "gate", .sources = {source}}}};
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
