#pragma once

#include <cstdint>
#include <span>

#include "kernels/packed_matrix.h"

namespace pleiad::kernels {

// One product y[r, o] = bias[o] + sum over i of x[r, i] * W[o, i].
struct GemmTask {
  const float* x = nullptr;              // rows of `weight->inputs()` floats, x_stride apart
  std::int64_t x_stride = 0;             // floats between rows of x
  const std::int32_t* x_rows = nullptr;  // [rows]: row r reads row x_rows[r] of x; null: row r
  std::int64_t rows = 0;
  const PackedMatrix* weight = nullptr;  // [outputs, inputs]
  const float* bias = nullptr;           // [outputs]: where the (first) chain starts; null: at zero
  float* y = nullptr;                    // rows of `weight->outputs()` floats, y_stride apart
  std::int64_t y_stride = 0;
  bool round_output = false;  // round y to an activation of the weight's compute type
  // 1, 2 or 4: the inputs fall into so many equal parts, each with a chain of its own, and the
  // chains' sums are added pairwise, (p0 + p1) + (p2 + p3). Whoever holds the inputs of a pair or a
  // part alone can compute that partial sum elsewhere, with the same bits. REQUIRES for more than
  // 1: inputs that the parts divide into even numbers, or of quantised weights into multiples of 8
  // (a part may begin inside a scale's group); no round_output.
  std::int64_t partial_sums = 1;
};

// All the tasks' products, spread over the pool together. A BFloat16 weight wants x rounded to BF16
// already. Every y[r, o] (of one partial sum) is one chain of fused multiply-adds over i in
// ascending order (for Avx512Bf16 and BFloat16 weights: of pair dot products), so its bits depend
// on row r of x and on W alone: not on rows, tiles, tasks or threads (DESIGN R1). Tasks of no rows
// are skipped and need no weight. Tasks may share x, never y. Allocates nothing.
//
// Quantised weights stay as they are stored; W[o, i] is code * scale, rounded to float. For
// Int8Channel x is quantised too, each row of each partial sum by itself: s = amax / 127,
// q = x / s rounded to even; the sum of q * code is an exact integer and is multiplied by
// (s * scale). Every unit of work quantises its rows on its stack, which costs a few hundredths of
// the product. Zeros stand for rows whose amax is below 2^-100; a row with anything not finite
// gives NaN.
//
// All but Plain BFloat16 weights on Avx512Bf16 give the same bits on every instruction set.
void grouped_gemm(const Context& context, std::span<const GemmTask> tasks);

// grouped_gemm of one task.
void gemm(const Context& context, const GemmTask& task);

// The specification: three plain loops.
void gemm_reference(const GemmTask& task);

}  // namespace pleiad::kernels
