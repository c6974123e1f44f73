#pragma once

#include <cstddef>
#include <cstdint>

#include "device/cuda/stream.h"
#include "kernels/cuda/expert_gate.h"
#include "kernels/cuda/expert_groups.h"
#include "kernels/cuda/gate_logits.h"
#include "kernels/cuda/row_ops.h"

namespace pleiad::kernels::cuda {

// What stands between a layer's attention and its experts.
struct ExpertRouteTask {
  RmsNormTask norm;     // with keeps_x and no row_index; its y is
  GateLogitsTask gate;  // this one's x
  SelectExpertsTask select;
  GroupByExpertTask group;
  std::uint32_t* arrivals = nullptr;  // one, zero at first; zero again after every launch
};

// rms_norm(), gate_logits(), select_experts() and group_by_expert(), one behind the other; up to
// kRouteRowsMax rows in one launch, with the same bits. REQUIRES: the same rows, and that each op's
// input is the output of the one before.
inline constexpr std::int64_t kRouteRowsMax = 16;
void route_to_experts(device::cuda::Stream& stream, const ExpertRouteTask& task);

}  // namespace pleiad::kernels::cuda
