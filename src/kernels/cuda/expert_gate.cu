#include "base/check.h"
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

}  // namespace

void select_experts(device::cuda::Stream& stream, const SelectExpertsTask& task) {
  detail::check_gate(task.options);
  if (task.rows == 0) return;
  const dim3 grid(detail::blocks_for(task.rows, kSelectWarps));
  detail::with_experts_per_lane(task.options.experts, [&](auto per) {
    const std::size_t shared = detail::gate_rows_bytes(task.options, kSelectWarps);
    detail::launch(stream, select_rows<per.value>, grid, kSelectWarps * 32, shared, task);
  });
  stream.launched("select_experts", task.rows, task.options.experts);
}

}  // namespace pleiad::kernels::cuda
