#pragma once

#include <cstdint>

#include "kernels/detail/isa_kernels.h"

// Loops over one row, over the vector operations `Isa`. Elementwise loops give the same bits
// whatever the register width; sums run in 16 lanes.
namespace pleiad::kernels::detail {

// e^x by range reduction to |r| <= ln(2) / 2 and a polynomial of degree 7.
template <typename Isa>
[[gnu::always_inline]] inline typename Isa::Reg exp_lanes(typename Isa::Reg x) {
  using Reg = typename Isa::Reg;
  // 1.5 * 2^23: adding it rounds to the nearest whole number and leaves that in the low bits.
  const Reg magic = Isa::broadcast(12582912.0F);
  const Reg smallest = Isa::broadcast(-87.3365448F);  // e^smallest is the least normal float
  const Reg clamped =
      Isa::min(Isa::broadcast(89.0F), Isa::max(Isa::broadcast(-88.0F), x));  // NaN passes through
  const Reg biased = Isa::fma(clamped, Isa::broadcast(1.44269504F), magic);
  const Reg n = Isa::sub(biased, magic);
  Reg r = Isa::fma(n, Isa::broadcast(-0.693359375F), clamped);
  r = Isa::fma(n, Isa::broadcast(2.12194440e-4F), r);
  Reg p = Isa::broadcast(1.9841270e-4F);
  p = Isa::fma(p, r, Isa::broadcast(1.3888889e-3F));
  p = Isa::fma(p, r, Isa::broadcast(8.3333333e-3F));
  p = Isa::fma(p, r, Isa::broadcast(4.1666667e-2F));
  p = Isa::fma(p, r, Isa::broadcast(0.16666667F));
  p = Isa::fma(p, r, Isa::broadcast(0.5F));
  p = Isa::fma(p, Isa::mul(r, r), r);
  p = Isa::add(p, Isa::broadcast(1.0F));
  return Isa::where_less(x, smallest, Isa::zero(), Isa::times_pow2(p, biased));
}

template <typename Isa>
float sum_of_squares(const float* x, std::int64_t count) {
  typename Isa::Reg sums[Isa::kRegs];
  for (auto& sum : sums) {
    sum = Isa::zero();
  }
  for (std::int64_t i = 0; i < count; i += kLanes) {
    for (int j = 0; j < Isa::kRegs; ++j) {
      const std::int64_t at = i + j * Isa::kWidth;
      const auto value = Isa::load_first(x + at, count - at, 0.0F);
      sums[j] = Isa::fma(value, value, sums[j]);
    }
  }
  return Isa::reduce_add(sums);
}

template <typename Isa>
void scale_row(const ScaledRow& row) {
  const auto factor = Isa::broadcast(row.factor);
  for (std::int64_t i = 0; i < row.count; i += Isa::kWidth) {
    const std::int64_t left = row.count - i;
    auto y = Isa::mul(Isa::load_first(row.x + i, left, 0.0F), factor);
    if (row.weight != nullptr) y = Isa::mul(y, Isa::load_first(row.weight + i, left, 0.0F));
    Isa::store_first(row.y + i, row.round ? Isa::round_bf16(y) : y, left);
  }
}

// 1 / (1 + e^-x).
template <typename Isa>
[[gnu::always_inline]] inline typename Isa::Reg sigmoid_lanes(typename Isa::Reg x) {
  const auto one = Isa::broadcast(1.0F);
  return Isa::div(one, Isa::add(one, exp_lanes<Isa>(Isa::sub(Isa::zero(), x))));
}

template <typename Isa>
void silu_mul(const GatedRow& row) {
  const auto one = Isa::broadcast(1.0F);
  for (std::int64_t i = 0; i < row.count; i += Isa::kWidth) {
    const std::int64_t left = row.count - i;
    const auto gate = Isa::load_first(row.gate + i, left, 0.0F);
    const auto up = Isa::load_first(row.up + i, left, 0.0F);
    const auto denominator = Isa::add(one, exp_lanes<Isa>(Isa::sub(Isa::zero(), gate)));
    const auto y = Isa::mul(Isa::div(gate, denominator), up);
    Isa::store_first(row.y + i, row.round ? Isa::round_bf16(y) : y, left);
  }
}

template <typename Isa>
void clamped_swiglu(const GatedRow& row, float limit) {
  const auto high = Isa::broadcast(limit);
  const auto low = Isa::broadcast(-limit);
  const auto one = Isa::broadcast(1.0F);
  for (std::int64_t i = 0; i < row.count; i += Isa::kWidth) {
    const std::int64_t left = row.count - i;
    const auto gate = Isa::min(high, Isa::load_first(row.gate + i, left, 0.0F));
    const auto up = Isa::max(low, Isa::min(high, Isa::load_first(row.up + i, left, 0.0F)));
    const auto sigmoid = sigmoid_lanes<Isa>(Isa::mul(gate, Isa::broadcast(1.702F)));
    const auto y = Isa::mul(Isa::mul(gate, sigmoid), Isa::add(up, one));
    Isa::store_first(row.y + i, row.round ? Isa::round_bf16(y) : y, left);
  }
}

template <typename Isa>
void add_row(const float* x, std::int64_t count, float* y) {
  for (std::int64_t i = 0; i < count; i += Isa::kWidth) {
    const std::int64_t left = count - i;
    const auto sum =
        Isa::add(Isa::load_first(y + i, left, 0.0F), Isa::load_first(x + i, left, 0.0F));
    Isa::store_first(y + i, sum, left);
  }
}

template <typename Isa>
void exp_row(const float* x, std::int64_t count, float* y) {
  for (std::int64_t i = 0; i < count; i += Isa::kWidth) {
    Isa::store_first(y + i, exp_lanes<Isa>(Isa::load_first(x + i, count - i, 0.0F)), count - i);
  }
}

template <typename Isa>
void sigmoid_row(const float* x, std::int64_t count, float* y) {
  for (std::int64_t i = 0; i < count; i += Isa::kWidth) {
    Isa::store_first(y + i, sigmoid_lanes<Isa>(Isa::load_first(x + i, count - i, 0.0F)), count - i);
  }
}

// Columns of tree_combine worked on at a time: the leaves of a block stay in the first-level cache.
inline constexpr std::int64_t kCombineBlock = 64;

template <typename Isa>
void combine_block(const CombineRow& row, std::int64_t begin, std::int64_t count) {
  using Reg = typename Isa::Reg;
  alignas(64) float slots[kCombineLeavesMax][kCombineBlock];
  for (std::int64_t leaf = 0; leaf < row.count; ++leaf) {
    const bool weighted = row.weights == nullptr;
    const Reg weight = weighted ? Isa::zero() : Isa::broadcast(row.weights[leaf]);
    for (std::int64_t i = 0; i < count; i += Isa::kWidth) {
      const Reg x = Isa::load_first(row.leaves[leaf] + begin + i, count - i, 0.0F);
      if (weighted) {
        Isa::store(slots[leaf] + i, x);
        continue;
      }
      const Reg y = Isa::mul(weight, x);
      Isa::store(slots[leaf] + i, row.round ? Isa::round_bf16(y) : y);
    }
  }
  for (std::int64_t m = 0; m + 1 < row.count; ++m) {
    float* into = slots[row.into[m]];
    const float* from = slots[row.from[m]];
    for (std::int64_t i = 0; i < count; i += Isa::kWidth) {
      const Reg y = Isa::add(Isa::load(into + i), Isa::load(from + i));
      Isa::store(into + i, row.round ? Isa::round_bf16(y) : y);
    }
  }
  for (std::int64_t i = 0; i < count; i += Isa::kWidth) {
    const std::int64_t left = count - i;
    Reg y = row.count > 0 ? Isa::load(slots[0] + i) : Isa::zero();
    if (row.shared != nullptr) {
      y = Isa::add(y, Isa::load_first(row.shared + begin + i, left, 0.0F));
      y = row.round ? Isa::round_bf16(y) : y;
    }
    if (row.sum != nullptr) {
      Isa::store_first(row.sum + begin + i, y, left);
      continue;
    }
    float* residual = row.residual + begin + i;
    Isa::store_first(residual, Isa::add(Isa::load_first(residual, left, 0.0F), y), left);
  }
}

template <typename Isa>
void combine_row(const CombineRow& row) {
  for (std::int64_t begin = 0; begin < row.hidden; begin += kCombineBlock) {
    const std::int64_t left = row.hidden - begin;
    combine_block<Isa>(row, begin, left < kCombineBlock ? left : kCombineBlock);
  }
}

}  // namespace pleiad::kernels::detail
