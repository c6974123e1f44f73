#pragma once

#include <cstdint>

#include "device/cuda/stream.h"
#include "kernels/cuda/row_ops.h"

namespace pleiad::kernels::cuda {

// kernels/tree_combine.h's sum of expert outputs (DESIGN R3) on device memory, same bits; and, as
// the whole row is at hand then, the norm that the next layer begins with. Shared experts' lines
// are summed in their order, in float, before they join the tree's sum.
struct CombineTask {
  // [lines, hidden]: expert outputs in F32; or in `activation`, weighted and rounded already.
  DeviceRows lines;
  const std::int32_t* line_of = nullptr;    // [rows, topk + shared_experts]
  const std::int32_t* ids = nullptr;        // the same, ascending within a row
  const float* weights = nullptr;           // the same
  const std::int32_t* positions = nullptr;  // [rows]: a row with a negative one is left out
  std::int64_t rows = 0;
  std::int64_t topk = 0;            // terms of a row's tree
  std::int64_t shared_experts = 0;  // lines of each row that stand behind those, outside the tree
  std::int64_t hidden = 0;
  DeviceRows shared;                              // [rows, hidden], F32: shared expert's, or null
  device::DType activation = device::DType::F32;  // what every node's sum is rounded to
  DeviceRows add;               // [rows, hidden] of `activation`, or null: added to residual first
  float* residual = nullptr;    // [rows, hidden], dense: the sum is added here
  const float* norm = nullptr;  // [hidden], or null: no norm follows
  float epsilon = 1e-6F;
  DeviceRows y;  // [rows, hidden] of `activation`: the normalised residual
  // Whether line_of, ids, weights and positions were complete before a kernel ahead on the stream
  // let the one behind it begin, as grouped_gemm() without starts_settled does: they are read while
  // the kernel before this one still runs.
  bool settled = false;
};
inline constexpr std::int64_t kCombineHiddenMax = 16384;
void tree_combine(device::cuda::Stream& stream, const CombineTask& task);

}  // namespace pleiad::kernels::cuda
