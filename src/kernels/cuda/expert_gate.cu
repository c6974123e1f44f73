#include <algorithm>

#include "base/check.h"
#include "kernels/cuda/detail/group_lines.cuh"
#include "kernels/cuda/detail/launch.cuh"
#include "kernels/cuda/detail/select_row.cuh"
#include "kernels/cuda/expert_gate.h"
#include "kernels/tree_combine.h"

namespace pleiad::kernels::cuda {
namespace {

constexpr int kSelectWarps = 4;  // rows of a block

template <int kPer>
__global__ void __launch_bounds__(kSelectWarps * 32) select_rows(const SelectExpertsTask task) {
  extern __shared__ float row_floats[];
  detail::let_next_begin();
  detail::wait_for_earlier_work();
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const std::int64_t index = std::int64_t{blockIdx.x} * kSelectWarps + warp;
  if (index >= task.rows) return;
  detail::select_row<kPer>(task, index, detail::gate_row(task.options, row_floats, warp));
}

// All rows in one block, a warp to a row: chooses, then groups.
template <int kPer>
__global__ void __launch_bounds__(detail::kChunkThreads)
    route_rows(const SelectExpertsTask select, const GroupByExpertTask group) {
  extern __shared__ float routed_floats[];
  detail::let_next_begin();
  detail::wait_for_earlier_work();
  const int warp = static_cast<int>(threadIdx.x) / 32;
  if (warp < static_cast<int>(select.rows)) {
    detail::select_row<kPer>(select, warp, detail::gate_row(select.options, routed_floats, warp));
  }
  __syncthreads();
  const std::int64_t of_rows = select.rows * detail::gate_row_floats(select.options);
  detail::group_in_block(group, reinterpret_cast<int*>(routed_floats + of_rows));
}

// body(integral constant): experts of a lane.
template <typename Body>
void with_experts_per_lane(std::int64_t experts, const Body& body) {
  if (experts <= 64) {
    body(std::integral_constant<int, 2>{});
  } else if (experts <= 128) {
    body(std::integral_constant<int, 4>{});
  } else if (experts <= 256) {
    body(std::integral_constant<int, 8>{});
  } else {
    body(std::integral_constant<int, kExpertsMax / 32>{});
  }
}

void check_gate(const GateOptions& options) {
  PLEIAD_CHECK(options.experts > 0 && options.experts <= kExpertsMax);
  PLEIAD_CHECK(options.groups > 0 && options.groups <= kTopkMax);
  PLEIAD_CHECK(options.experts % options.groups == 0);
  PLEIAD_CHECK(options.topk_groups > 0 && options.topk_groups <= options.groups);
  const std::int64_t eligible = options.experts / options.groups * options.topk_groups;
  PLEIAD_CHECK(options.topk > 0 && options.topk <= eligible && options.topk <= kTopkMax);
}

std::size_t rows_bytes(const GateOptions& options, std::int64_t rows) {
  return static_cast<std::size_t>(rows * detail::gate_row_floats(options)) * sizeof(float);
}

}  // namespace

void select_experts(device::cuda::Stream& stream, const SelectExpertsTask& task) {
  check_gate(task.options);
  if (task.rows == 0) return;
  const dim3 grid(detail::blocks_for(task.rows, kSelectWarps));
  with_experts_per_lane(task.options.experts, [&](auto per) {
    const std::size_t shared = rows_bytes(task.options, kSelectWarps);
    detail::launch(stream, select_rows<per.value>, grid, kSelectWarps * 32, shared, task);
  });
  stream.launched("select_experts", task.rows, task.options.experts);
}

void route_experts(
    device::cuda::Stream& stream,
    const SelectExpertsTask& select,
    const GroupByExpertTask& group
) {
  check_gate(select.options);
  PLEIAD_CHECK(select.ids == group.ids && select.rows == group.rows);
  PLEIAD_CHECK(group.topk == select.options.topk && group.experts == select.options.experts);
  if (group.rows > kRouteRowsMax || group.rows == 0) {
    select_experts(stream, select);
    group_by_expert(stream, group);
    return;
  }
  const std::int64_t warps = std::max(group.rows, (group.rows * group.topk + 31) / 32);
  const auto shared =
      rows_bytes(select.options, select.rows) +
      static_cast<std::size_t>(detail::chunk_ints(group.experts, static_cast<int>(warps))) * 4;
  with_experts_per_lane(group.experts, [&](auto per) {
    const auto threads = static_cast<unsigned>(warps * 32);
    detail::launch(stream, route_rows<per.value>, dim3(1), threads, shared, select, group);
  });
  stream.launched("route_experts", group.rows, group.experts);
}

}  // namespace pleiad::kernels::cuda
