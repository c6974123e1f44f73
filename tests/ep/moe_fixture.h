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

// One layer with its plain matrices, and the same packed: whole, and in shards.
struct Layer {
  MoeShape shape;
  Matrix gate;
  std::vector<Matrix> gate_up;
  std::vector<Matrix> down;
  Matrix shared_gate_up;
  Matrix shared_down;
  std::vector<device::Buffer> memory;
  MoeWeights packed;   // one shard: every expert whole
  MoeWeights sharded;  // moe_tp shards

  Layer(
      const MoeShape& layer_shape,
      Random& random,
      kernels::Compute layer_compute = kernels::Compute::Float32,
      std::int64_t moe_tp = 1
  )
      : shape(layer_shape), compute(layer_compute) {
    const std::int64_t hidden = shape.hidden;
    gate = random_matrix(random, shape.gate.experts, hidden);
    for (std::int64_t e = 0; e < shape.gate.experts; ++e) {
      gate_up.push_back(random_matrix(random, 2 * shape.intermediate, hidden));
      down.push_back(random_matrix(random, hidden, shape.intermediate));
      packed.choice_bias.push_back(static_cast<float>(random.normal()) * 0.1F);
    }
    if (shape.shared_intermediate > 0) {
      shared_gate_up = random_matrix(random, 2 * shape.shared_intermediate, hidden);
      shared_down = random_matrix(random, hidden, shape.shared_intermediate);
    }
    sharded.choice_bias = packed.choice_bias;
    pack_all(packed, 1);
    pack_all(sharded, moe_tp);
  }

 private:
  kernels::Compute compute;

  void pack_all(MoeWeights& out, std::int64_t shards) {
    const std::int64_t hidden = shape.hidden;
    const std::int64_t width = shape.intermediate;
    const std::int64_t part = width / shards;
    out.gate = pack({source(gate, shape.gate.experts, hidden)}, kernels::Compute::Float32);
    for (std::int64_t t = 0; t < shards; ++t) {
      ExpertShard& shard = out.shards.emplace_back();
      for (std::size_t e = 0; e < down.size(); ++e) {
        auto gate_part = source(gate_up[e], 2 * width, hidden);
        gate_part.row_begin = t * part;
        gate_part.row_count = part;
        auto up_part = gate_part;
        up_part.row_begin += width;
        auto down_part = source(down[e], hidden, width);
        down_part.column_begin = t * part;
        down_part.column_count = part;
        shard.gate_up.push_back(pack({gate_part, up_part}, compute));
        shard.down.push_back(pack({down_part}, compute));
      }
    }
    const std::int64_t shared = shape.shared_intermediate;
    if (shared == 0) return;
    out.shared_gate_up = pack({source(shared_gate_up, 2 * shared, hidden)}, compute);
    out.shared_down = pack({source(shared_down, hidden, shared)}, compute);
  }

  static kernels::MatrixSource
  source(const Matrix& matrix, std::int64_t rows, std::int64_t columns) {
    return {
        .tensor = {
            .bytes = std::as_bytes(std::span(matrix)),
            .dtype = device::DType::F32,
            .shape = {.extents = {rows, columns}, .rank = 2},
        }};
  }

  kernels::PackedMatrix
  pack(const std::vector<kernels::MatrixSource>& sources, kernels::Compute as) {
    std::int64_t outputs = 0;
    std::int64_t inputs = 0;
    for (const auto& part : sources) {
      outputs += part.row_count < 0 ? part.tensor.shape[0] : part.row_count;
      inputs = part.column_count < 0 ? part.tensor.shape[1] : part.column_count;
    }
    memory.push_back(
        device::Buffer::allocate(kernels::PackedMatrix::bytes(outputs, inputs, as)).value()
    );
    return kernels::PackedMatrix::pack(sources, as, {memory.back().data(), memory.back().size()})
        .value();
  }
};

}  // namespace pleiad::ep::testing
