#include "kernels/cuda/grouped_gemm.h"

#include <cuda_runtime_api.h>

#include "base/check.h"
#include "kernels/cuda/detail/grouped_gemm_launch.h"
#include "kernels/cuda/detail/tensor_map.h"
#include "kernels/cuda/grouped_gemm_plan.h"

namespace pleiad::kernels::cuda {
namespace {

constexpr std::int32_t kStepBytes = 128;

int multiprocessors_of(int gpu) {
  int count = 0;
  const cudaError_t status = cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, gpu);
  PLEIAD_CHECK(status == cudaSuccess && count > 0, "the stream's GPU");
  return count;
}

hopper::GroupedLaunch
describe(const device::cuda::Stream& stream, const GroupedGemmTask& task, const GroupedTile& tile) {
  const GroupedShape& shape = task.shape;
  const std::int32_t step = grouped_step(shape.format);
  hopper::GroupedLaunch launch{
      .arguments =
          {.weights = static_cast<const unsigned char*>(task.weights.packed),
           .x = static_cast<const unsigned char*>(task.x),
           .x_index = task.x_index,
           .starts = task.starts,
           .out = task.out,
           .experts = shape.experts,
           .outputs = shape.outputs,
           .steps = shape.inputs / step,
           .step_values = step},
      .tile = tile,
      .blocks = grouped_blocks(shape, tile, multiprocessors_of(stream.gpu())),
      .gathered = shape.gathered,
      .overlap = task.overlap_launch,
      .stream = stream.handle()};
  if (shape.gathered) return launch;
  hopper::TensorBoxes boxes{
      .data = task.x,
      .type = CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
      .columns = shape.inputs,
      .rows = task.x_rows,
      .row_bytes = std::int64_t{shape.inputs} * kStepBytes / step,
      .box_columns = step,
      .box_rows = 64};
  launch.rows_64 = hopper::tensor_map(boxes);
  boxes.box_rows = 8;
  launch.rows_8 = hopper::tensor_map(boxes);
  return launch;
}

cudaError_t launch_output(GroupedOutput output, const hopper::GroupedLaunch& launch) {
  switch (output) {
    case GroupedOutput::BFloat16:
      return hopper::launch_grouped_bf16(launch);
    case GroupedOutput::Float32:
      return hopper::launch_grouped_float(launch);
    case GroupedOutput::SwiGlu:
      return hopper::launch_grouped_swiglu(launch);
  }
  PLEIAD_CHECK(false, "an output");
}

}  // namespace

void pack_grouped_weights(device::cuda::Stream& stream, const PackGroupedTask& task) {
  const auto output =
      task.layout == GroupedLayout::Gated ? GroupedOutput::SwiGlu : GroupedOutput::BFloat16;
  PLEIAD_CHECK(grouped_supports({.experts = 1,
                                 .outputs = task.outputs,
                                 .inputs = task.inputs,
                                 .rows_max = 1,
                                 .format = task.format,
                                 .output = output})
                   .ok());
  static_cast<void>(hopper::launch_pack(task, stream.handle()));
  stream.launched("packing grouped weights", task.experts * task.outputs, task.inputs);
}

void grouped_gemm(device::cuda::Stream& stream, const GroupedGemmTask& task) {
  grouped_gemm(stream, task, grouped_tile(task.shape));
}

void grouped_gemm(
    device::cuda::Stream& stream,
    const GroupedGemmTask& task,
    const GroupedTile& tile
) {
  PLEIAD_CHECK(grouped_supports(task.shape).ok());
  PLEIAD_CHECK(grouped_tile_fits(task.shape, tile));
  PLEIAD_CHECK(
      task.shape.gathered == (task.x_index != nullptr), "gathered rows and their index list"
  );
  // A refused launch stays the runtime's last error, which the stream reads.
  static_cast<void>(launch_output(task.shape.output, describe(stream, task, tile)));
  stream.launched("grouped product", task.shape.rows_max, task.shape.outputs);
}

}  // namespace pleiad::kernels::cuda
