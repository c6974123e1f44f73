#pragma once

#include <cstdint>

#include "device/cuda/stream.h"
#include "kernels/cuda/expert_groups.h"
#include "kernels/expert_gate.h"

namespace pleiad::kernels::cuda {

// kernels/expert_gate.h's select_experts on device memory: same choices, weights equal but for the
// last bits of exponentials. A warp to a row.
struct SelectExpertsTask {
  GateOptions options;
  const float* logits = nullptr;  // [rows, experts], dense
  const float* bias = nullptr;    // [experts] added for the choice only; null: none
  std::int64_t rows = 0;
  std::int32_t* ids = nullptr;  // [rows, topk], ascending within a row
  float* weights = nullptr;     // [rows, topk]
};
void select_experts(device::cuda::Stream& stream, const SelectExpertsTask& task);

// select_experts(), then group_by_expert(); up to kRouteRowsMax rows in one launch of one block.
// REQUIRES: the same rows, ids, experts and topk.
inline constexpr std::int64_t kRouteRowsMax = 16;
void route_experts(
    device::cuda::Stream& stream,
    const SelectExpertsTask& select,
    const GroupByExpertTask& group
);

}  // namespace pleiad::kernels::cuda
