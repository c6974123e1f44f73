#include <algorithm>

#include "base/check.h"
#include "device/cuda/gpus.h"
#include "kernels/cuda/detail/few_rows_block.cuh"
#include "kernels/cuda/detail/tensor_map.h"
#include "kernels/cuda/few_rows_gemm.h"

namespace pleiad::kernels::cuda {
namespace {

using device::DType;
using hopper::few_rows_stage_bytes;
using hopper::FewRowsArguments;
using hopper::FewRowsRing;
using hopper::kFewRowsCompute;
using hopper::kFewRowsHeightMax;
using hopper::kFewRowsInputs;
using hopper::kFewRowsSlackBytes;
using hopper::kFewRowsStagesMax;
using hopper::kFewRowsThreads;

template <int kRows, typename Y>
__global__ void __launch_bounds__(kFewRowsThreads) few_rows_kernel(
    const __grid_constant__ FewRowsArguments arguments,
    const __grid_constant__ CUtensorMap weights,
    const __grid_constant__ CUtensorMap rows
) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) unsigned char shared[];
  const std::uint32_t begin = hopper::shared_address(shared);
  const auto ring_bytes =
      static_cast<std::uint32_t>(arguments.stages * few_rows_stage_bytes(arguments.height, kRows));
  const FewRowsRing<kRows> ring{
      .arguments = arguments, .stages = begin, .control = begin + ring_bytes + kFewRowsSlackBytes};
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < arguments.stages; ++stage) {
      hopper::barrier_init(ring.full_at(stage), 1);
      hopper::barrier_init(ring.empty_at(stage), kFewRowsCompute / 32);
    }
    hopper::barrier_init_fence();
  }
  detail::let_next_begin();
  __syncthreads();
  if (threadIdx.x >= kFewRowsCompute) {
    if (threadIdx.x == kFewRowsCompute) hopper::feed_few<kRows>(ring, weights, rows);
    return;
  }
  // The rows have come once the sums are there, and with them the end of all earlier work.
  float sums[kRows / 2] = {};
  if (kRows <= 8 && arguments.holds_all) {
    hopper::multiply_held<kRows>(ring, sums);
  } else {
    hopper::multiply_few<kRows>(ring, sums);
  }
  hopper::store_few<kRows, Y>(arguments, sums);
#else
  __trap();  // built for GPUs without Hopper's instructions
#endif
}

// As many stages as the matrix has steps, or as fit; two blocks share a multiprocessor when there
// are more blocks than multiprocessors.
int stages_of(int height, int rows, int steps, bool shares) {
  constexpr int kSharedBytes = 225 * 1024;
  const int room = (shares ? kSharedBytes / 2 : kSharedBytes) - kFewRowsSlackBytes - 2 * 1024;
  return std::min({steps, room / few_rows_stage_bytes(height, rows), kFewRowsStagesMax});
}

template <int kRows, typename Y>
void launch(device::cuda::Stream& stream, const FewRowsTask& task) {
  const std::int32_t multiprocessors = device::cuda::multiprocessors_of(stream.gpu());
  const auto height = few_rows_height(task.weight.outputs, task.count, multiprocessors);
  const dim3 grid(
      detail::blocks_for(task.weight.outputs, height), static_cast<unsigned>(task.count)
  );
  const auto steps = static_cast<std::int32_t>(task.weight.inputs / kFewRowsInputs);
  const bool shares = grid.x * grid.y > static_cast<unsigned>(multiprocessors);
  const int stages = stages_of(height, kRows, steps, shares);
  const FewRowsArguments arguments{
      .outputs = static_cast<std::int32_t>(task.weight.outputs),
      .steps = steps,
      .height = height,
      .stages = stages,
      .rows = static_cast<std::int32_t>(task.rows),
      .weight_step = static_cast<std::int32_t>(task.weight_step / task.weight.inputs),
      .x_step = task.x_step,
      .y_step = task.y_step,
      .x = static_cast<const detail::BF16*>(task.x.data),
      .x_stride = task.x.stride,
      .y = task.y.data,
      .y_stride = task.y.stride,
      .holds_all = kRows <= 8 && stages == steps,
  };
  const CUtensorMap weights = hopper::tensor_map(
      {.data = task.weight.codes,
       .columns = task.weight.inputs,
       .rows = (task.count - 1) * arguments.weight_step + task.weight.outputs,
       .row_bytes = task.weight.row_bytes,
       .box_columns = kFewRowsInputs,
       .box_rows = height}
  );
  const CUtensorMap rows = hopper::tensor_map(
      {.data = task.x.data,
       .columns = (task.count - 1) * task.x_step + task.weight.inputs,
       .rows = task.rows,
       .row_bytes = task.x.stride * 2,
       .box_columns = kFewRowsInputs,
       .box_rows = kRows}
  );
  const auto shared = static_cast<std::size_t>(
      arguments.stages * few_rows_stage_bytes(height, kRows) + kFewRowsSlackBytes +
      static_cast<int>(sizeof(hopper::FewRowsControl))
  );
  const auto kernel = few_rows_kernel<kRows, Y>;
  detail::launch(stream, kernel, grid, kFewRowsThreads, shared, arguments, weights, rows);
}

template <typename Y>
void launch_rows(device::cuda::Stream& stream, const FewRowsTask& task) {
  if (task.rows <= 8) {
    launch<8, Y>(stream, task);
  } else if (task.rows <= 16) {
    launch<16, Y>(stream, task);
  } else if (task.rows <= 32) {
    launch<32, Y>(stream, task);
  } else {
    launch<64, Y>(stream, task);
  }
}

}  // namespace

bool few_rows_supports(const FewRowsTask& task) {
  constexpr std::int64_t kWidthMax = 1 << 20;
  const DeviceMatrix& w = task.weight;
  return task.rows <= kFewRowsMax && w.outputs % 8 == 0 && w.outputs <= kWidthMax &&
         w.inputs % kFewRowsInputs == 0 && w.inputs <= kWidthMax && w.row_bytes == w.inputs * 2 &&
         task.weight_step % w.inputs == 0 && task.x.stride % 8 == 0 && task.x_step % 8 == 0;
}

std::int32_t
few_rows_height(std::int64_t outputs, std::int64_t count, std::int32_t multiprocessors) {
  // With many blocks for each multiprocessor it does not matter where the last ones run.
  constexpr std::int64_t kRounds = 4;
  if (outputs * count >= kRounds * kFewRowsHeightMax * multiprocessors) return kFewRowsHeightMax;
  std::int64_t best = kFewRowsHeightMax;
  std::int64_t best_outputs = INT64_MAX;
  for (std::int64_t height = kFewRowsHeightMax; height >= 8; height -= 8) {
    const std::int64_t blocks = (outputs + height - 1) / height * count;
    const std::int64_t busiest = (blocks + multiprocessors - 1) / multiprocessors * height;
    if (busiest >= best_outputs) continue;
    best = height;
    best_outputs = busiest;
  }
  return static_cast<std::int32_t>(best);
}

void few_rows_gemm(device::cuda::Stream& stream, const FewRowsTask& task) {
  PLEIAD_CHECK(few_rows_supports(task));
  PLEIAD_CHECK(task.x.dtype == DType::BF16);
  if (task.rows == 0) return;
  detail::with_element(task.y.dtype, [&](auto element) {
    launch_rows<decltype(element)>(stream, task);
  });
  stream.launched("few_rows_gemm", task.rows, task.weight.outputs);
}

}  // namespace pleiad::kernels::cuda
