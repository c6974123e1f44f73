#pragma once

#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "base/random.h"
#include "device/buffer.h"
#include "ep/moe_weights.h"

// A mixture-of-experts layer with random weights.
namespace pleiad::ep::testing {

using Matrix = std::vector<float>;  // row-major

inline Matrix random_matrix(Random& random, std::int64_t rows, std::int64_t columns) {
  Matrix out(static_cast<std::size_t>(rows * columns));
  for (float& x : out)
    x = static_cast<float>(random.normal() / std::sqrt(static_cast<double>(columns)));
  return out;
}

// One layer with its plain matrices, and the same packed.
struct Layer {
  MoeShape shape;
  Matrix gate;
  std::vector<Matrix> gate_up;
  std::vector<Matrix> down;
  Matrix shared_gate_up;
  Matrix shared_down;
  std::vector<device::Buffer> memory;
  MoeWeights packed;

  Layer(
      const MoeShape& layer_shape,
      Random& random,
      kernels::Compute compute = kernels::Compute::Float32
  )
      : shape(layer_shape) {
    const std::int64_t hidden = shape.hidden;
    gate = random_matrix(random, shape.gate.experts, hidden);
    packed.gate = pack(gate, shape.gate.experts, hidden, kernels::Compute::Float32);
    for (std::int64_t e = 0; e < shape.gate.experts; ++e) {
      gate_up.push_back(random_matrix(random, 2 * shape.intermediate, hidden));
      down.push_back(random_matrix(random, hidden, shape.intermediate));
      packed.gate_up.push_back(pack(gate_up.back(), 2 * shape.intermediate, hidden, compute));
      packed.down.push_back(pack(down.back(), hidden, shape.intermediate, compute));
      packed.gate_bias.push_back(static_cast<float>(random.normal()) * 0.1F);
    }
    if (shape.shared_intermediate == 0) return;
    shared_gate_up = random_matrix(random, 2 * shape.shared_intermediate, hidden);
    shared_down = random_matrix(random, hidden, shape.shared_intermediate);
    packed.shared_gate_up = pack(shared_gate_up, 2 * shape.shared_intermediate, hidden, compute);
    packed.shared_down = pack(shared_down, hidden, shape.shared_intermediate, compute);
  }

  kernels::PackedMatrix
  pack(const Matrix& matrix, std::int64_t rows, std::int64_t columns, kernels::Compute compute) {
    memory.push_back(
        device::Buffer::allocate(kernels::PackedMatrix::bytes(rows, columns, compute)).value()
    );
    const std::vector<kernels::MatrixSource> sources = {
        {.tensor = {
             .bytes = std::as_bytes(std::span(matrix)),
             .dtype = device::DType::F32,
             .shape = {.extents = {rows, columns}, .rank = 2},
         }}};
    return kernels::PackedMatrix::pack(
               sources, compute, {memory.back().data(), memory.back().size()}
    )
        .value();
  }
};

}  // namespace pleiad::ep::testing
