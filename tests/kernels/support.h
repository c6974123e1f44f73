#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include <gtest/gtest.h>

#include "base/random.h"
#include "device/buffer.h"
#include "device/cpu_isa.h"
#include "kernels/context.h"
#include "kernels/packed_matrix.h"

// What the kernel tests share: inputs from a seed, outputs that show when they are not written,
// comparisons to the bit.
namespace pleiad::kernels::testing {

// Every instruction set this processor runs, portable first.
inline std::vector<device::CpuIsa> runnable_isas() {
  using device::CpuIsa;
  std::vector<CpuIsa> isas;
  for (const CpuIsa isa : {CpuIsa::Portable, CpuIsa::Avx2, CpuIsa::Avx512, CpuIsa::Avx512Bf16}) {
    if (isa <= device::detect_cpu_isa()) isas.push_back(isa);
  }
  return isas;
}

inline std::vector<float> random_floats(Random& random, std::size_t count, Compute compute) {
  std::vector<float> values(count);
  for (float& value : values) {
    value = round_activation(static_cast<float>(random.normal()), compute);
  }
  return values;
}

// An output that nothing has written.
inline std::vector<float> poison(std::size_t count) {
  return std::vector<float>(count, std::numeric_limits<float>::quiet_NaN());
}

inline bool same_bits(std::span<const float> a, std::span<const float> b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::bit_cast<std::uint32_t>(a[i]) != std::bit_cast<std::uint32_t>(b[i])) return false;
  }
  return true;
}

// The largest |a - b|; infinity where either is NaN.
inline float largest_difference(std::span<const float> a, std::span<const float> b) {
  float largest = 0.0F;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const float difference = std::fabs(a[i] - b[i]);
    if (std::isnan(difference)) return std::numeric_limits<float>::infinity();
    largest = std::max(largest, difference);
  }
  return largest;
}

// A packed matrix that owns its memory.
struct OwnedMatrix {
  device::Buffer memory;
  PackedMatrix matrix;
};

inline device::TensorView
view_of(std::span<const float> values, std::int64_t rows, std::int64_t columns) {
  return {
      .bytes = std::as_bytes(values),
      .dtype = device::DType::F32,
      .shape = {.extents = {rows, columns}, .rank = 2},
  };
}

inline OwnedMatrix
pack(std::span<const float> weights, std::int64_t outputs, std::int64_t inputs, Compute compute) {
  OwnedMatrix owned;
  owned.memory = device::Buffer::allocate(PackedMatrix::bytes(outputs, inputs, compute)).value();
  const MatrixSource source = {.tensor = view_of(weights, outputs, inputs)};
  owned.matrix = PackedMatrix::pack({&source, 1}, compute, owned.memory.as<std::byte>()).value();
  return owned;
}

struct Columns {
  std::int64_t outputs;
  std::int64_t inputs;  // of the whole matrix
  std::int64_t begin;
  std::int64_t count;
};

// Some columns of `weights` [outputs, inputs].
inline OwnedMatrix
pack_columns(std::span<const float> weights, const Columns& columns, Compute compute) {
  OwnedMatrix owned;
  owned.memory =
      device::Buffer::allocate(PackedMatrix::bytes(columns.outputs, columns.count, compute))
          .value();
  const MatrixSource source = {
      .tensor = view_of(weights, columns.outputs, columns.inputs),
      .column_begin = columns.begin,
      .column_count = columns.count,
  };
  owned.matrix = PackedMatrix::pack({&source, 1}, compute, owned.memory.as<std::byte>()).value();
  return owned;
}

}  // namespace pleiad::kernels::testing
