#pragma once

#include <cstdint>

#include "device/cuda/stream.h"
#include "kernels/expert_gate.h"

namespace pleiad::kernels::cuda {

// kernels/expert_gate.h's select_experts on device memory: same choices, weights equal but for the
// last bits of exponentials. A warp to a row.
struct SelectExpertsTask {
  GateOptions options;
  const float* logits = nullptr;  // [rows, experts], dense
  const float* bias = nullptr;    // [experts] added for the choice only; null: none
  std::int64_t rows = 0;
  // Shared experts, which every row has beside those chosen: behind the chosen ones in a row of
  // `ids` stand options.experts, options.experts + 1 and so on, with weight one.
  std::int64_t shared = 0;
  std::int32_t* ids = nullptr;  // [rows, topk + shared], ascending within a row
  float* weights = nullptr;     // [rows, topk + shared]
};
void select_experts(device::cuda::Stream& stream, const SelectExpertsTask& task);

}  // namespace pleiad::kernels::cuda
