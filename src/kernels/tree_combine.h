#pragma once

#include <cstdint>

#include "kernels/context.h"

namespace pleiad::kernels {

// Largest number of experts per token that tree_combine takes.
inline constexpr std::int64_t kTopkMax = 64;

struct TreeCombineTask {
  const float* expert_rows =
      nullptr;  // [assignments, hidden], dense: outputs E_i(x), not yet weighted
  const std::int32_t* row_of = nullptr;  // [rows, topk]: the assignment's line in expert_rows
  const std::int32_t* ids = nullptr;     // [rows, topk] expert ids, ascending within a row
  const float* weights = nullptr;        // [rows, topk]
  std::int64_t rows = 0;
  std::int64_t topk = 0;
  std::int64_t hidden = 0;
  const float* shared = nullptr;  // [rows, hidden] shared expert's output, or null
  float* residual = nullptr;      // [rows, hidden]: the sum is added here
};

// residual += combine(row) where combine is DESIGN R3: leaves w_i * E_i(x), summed along the binary
// tree over expert ids (node at level l covers ids that agree above bit l; a missing child passes
// the other through), every leaf and node rounded to an activation; then the shared expert is added
// and the sum rounded.
void tree_combine(const Context& context, const TreeCombineTask& task);
void tree_combine_reference(Compute compute, const TreeCombineTask& task);

}  // namespace pleiad::kernels
