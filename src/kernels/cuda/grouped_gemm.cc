#include "kernels/cuda/grouped_gemm.h"

#include <cuda_runtime_api.h>

#include "base/check.h"
#include "device/cuda/gpus.h"
#include "kernels/cuda/detail/grouped_gemm_launch.h"
#include "kernels/cuda/detail/tensor_map.h"
#include "kernels/cuda/grouped_gemm_plan.h"

namespace pleiad::kernels::cuda {
namespace {

hopper::GroupedLaunch
describe(const device::cuda::Stream& stream, const GroupedGemmTask& task, const GroupedTile& tile) {
  const GroupedShape& shape = task.shape;
  const std::int32_t step = grouped_step(shape.format);
  return {
      .arguments =
          {.weights = static_cast<const unsigned char*>(task.weights.packed),
           .weight_scales = task.weights.scales,
           .x = static_cast<const unsigned char*>(task.x),
           .x_index = task.x_index,
           .x_scales = task.x_scales,
           .x_scale_stride = task.x_scale_stride,
           .starts = task.starts,
           .row_weights = task.row_weights,
           .out = task.out,
           .experts = shape.experts,
           .outputs = shape.outputs,
           .height = tile.outputs,
           .steps = shape.inputs / step,
           .step_values = step,
           .starts_settled = task.overlap_launch && task.starts_settled},
      .tile = tile,
      .blocks = grouped_blocks(shape, tile, device::cuda::multiprocessors_of(stream.gpu())),
      .gathered = shape.gathered,
      .overlap = task.overlap_launch,
      .stream = stream.handle()};
}

// Tells the copy engine how the activations lie.
void describe_rows(const GroupedGemmTask& task, hopper::GroupedLaunch& launch) {
  const GroupedShape& shape = task.shape;
  const bool is_fp8 = shape.format == GroupedFormat::Fp8Blocks;
  hopper::TensorBoxes boxes{
      .data = task.x,
      .type = is_fp8 ? CU_TENSOR_MAP_DATA_TYPE_UINT8 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
      .columns = shape.inputs,
      .rows = task.x_rows,
      .row_bytes = grouped_packed_bytes(shape.format, 1, 1, shape.inputs),
      .box_columns = grouped_step(shape.format),
      .box_rows = 64};
  launch.rows_64 = hopper::tensor_map(boxes);
  boxes.box_rows = 8;
  launch.rows_8 = hopper::tensor_map(boxes);
}

cudaError_t launch_bf16(GroupedOutput output, const hopper::GroupedLaunch& launch) {
  switch (output) {
    case GroupedOutput::BFloat16:
      return hopper::launch_grouped_bf16_rounded(launch);
    case GroupedOutput::Float32:
      return hopper::launch_grouped_bf16_float(launch);
    case GroupedOutput::SwiGlu:
      return hopper::launch_grouped_bf16_swiglu(launch);
  }
  PLEIAD_CHECK(false, "an output");
}

cudaError_t launch_fp8(GroupedOutput output, const hopper::GroupedLaunch& launch) {
  switch (output) {
    case GroupedOutput::BFloat16:
      return hopper::launch_grouped_fp8_rounded(launch);
    case GroupedOutput::Float32:
      return hopper::launch_grouped_fp8_float(launch);
    case GroupedOutput::SwiGlu:
      return hopper::launch_grouped_fp8_swiglu(launch);
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
  grouped_gemm(
      stream, task, grouped_tile(task.shape, device::cuda::multiprocessors_of(stream.gpu()))
  );
}

void grouped_gemm(
    device::cuda::Stream& stream,
    const GroupedGemmTask& task,
    const GroupedTile& tile
) {
  const GroupedShape& shape = task.shape;
  const bool is_fp8 = shape.format == GroupedFormat::Fp8Blocks;
  PLEIAD_CHECK(grouped_supports(shape).ok());
  PLEIAD_CHECK(grouped_tile_fits(shape, tile));
  PLEIAD_CHECK(shape.gathered == (task.x_index != nullptr), "gathered rows and their index list");
  PLEIAD_CHECK(
      is_fp8 == (task.x_scales != nullptr && task.weights.scales != nullptr),
      "scales with FP8 alone"
  );
  PLEIAD_CHECK(
      task.row_weights == nullptr || shape.output == GroupedOutput::BFloat16,
      "weights of rows with rounded outputs alone"
  );
  // The kernel counts x in 16-byte chunks, in 32 bits.
  PLEIAD_CHECK(
      task.x_rows * grouped_packed_bytes(shape.format, 1, 1, shape.inputs) / 16 <=
      std::int64_t{UINT32_MAX}
  );
  hopper::GroupedLaunch launch = describe(stream, task, tile);
  if (!shape.gathered) describe_rows(task, launch);
  // A refused launch stays the runtime's last error, which the stream reads.
  static_cast<void>(is_fp8 ? launch_fp8(shape.output, launch) : launch_bf16(shape.output, launch));
  stream.launched("grouped product", shape.rows_max, shape.outputs);
}

}  // namespace pleiad::kernels::cuda
