#pragma once

#include <cstdint>

#include "kernels/context.h"

namespace pleiad::kernels {

// Largest number of experts per token that tree_combine takes.
inline constexpr std::int64_t kTopkMax = 64;

// Sums of terms, one sum per row. A row's terms are the entries starts[row] .. starts[row + 1] of
// the term arrays, or row * topk .. (row + 1) * topk when there are no starts; at most kTopkMax of
// them.
struct TreeCombineTask {
  const float* term_rows = nullptr;      // [lines, hidden], dense: expert outputs, or sums of nodes
  const std::int32_t* row_of = nullptr;  // [terms]: the term's line in term_rows
  const std::int32_t* ids = nullptr;  // [terms] expert ids, ascending within a row; for the sum of
                                      // a node, any id under it
  const float* weights = nullptr;     // [terms]; null: the lines are weighted already
  const std::int32_t* starts = nullptr;  // [rows + 1] or null
  std::int64_t rows = 0;
  std::int64_t topk = 0;  // terms of each row when there are no starts
  std::int64_t hidden = 0;
  const float* shared = nullptr;  // [rows, hidden] shared expert's output, or null
  float* residual = nullptr;      // [rows, hidden]: the sum is added here, or
  float* sum = nullptr;           // [rows, hidden]: the sum is written here; exactly one of the two
};

// residual += combine(row), or sum = combine(row), where combine is DESIGN R3: leaves w_i * E_i(x),
// summed along the binary tree over expert ids (node at level l covers ids that agree above bit l;
// a missing child passes the other through), every leaf and node rounded to an activation; then the
// shared expert is added and the sum rounded. The sum of a node's leaves, taken alone, may stand in
// for them: the whole keeps its bits.
void tree_combine(const Context& context, const TreeCombineTask& task);
void tree_combine_reference(Compute compute, const TreeCombineTask& task);

}  // namespace pleiad::kernels
