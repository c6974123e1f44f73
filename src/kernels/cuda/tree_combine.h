#pragma once

#include <cstdint>

#include "device/cuda/stream.h"
#include "kernels/cuda/row_ops.h"

namespace pleiad::kernels::cuda {

// kernels/tree_combine.h's sum of expert outputs (DESIGN R3) on device memory, same bits; and, as
// the whole row is at hand then, the norm that the next layer begins with.
struct CombineTask {
  DeviceRows lines;                         // [lines, hidden], F32: expert outputs
  const std::int32_t* line_of = nullptr;    // [rows, topk]
  const std::int32_t* ids = nullptr;        // [rows, topk], ascending within a row
  const float* weights = nullptr;           // [rows, topk]
  const std::int32_t* positions = nullptr;  // [rows]: a row with a negative one is left out
  std::int64_t rows = 0;
  std::int64_t topk = 0;
  std::int64_t hidden = 0;
  DeviceRows shared;                              // [rows, hidden], F32: shared expert's, or null
  device::DType activation = device::DType::F32;  // what every node's sum is rounded to
  float* residual = nullptr;                      // [rows, hidden], dense: the sum is added here
  const float* norm = nullptr;                    // [hidden], or null: no norm follows
  float epsilon = 1e-6F;
  DeviceRows y;  // [rows, hidden] of `activation`: the normalised residual
};
void tree_combine(device::cuda::Stream& stream, const CombineTask& task);

}  // namespace pleiad::kernels::cuda
