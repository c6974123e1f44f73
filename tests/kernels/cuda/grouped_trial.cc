#include "tests/kernels/cuda/grouped_trial.h"

#include <algorithm>

#include "tests/kernels/cuda/grouped_reference.h"

namespace pleiad::kernels::cuda {
namespace {

// Bytes of one row of activations.
std::int64_t row_bytes(const GroupedShape& shape) {
  return grouped_packed_bytes(shape.format, 1, 1, shape.inputs);
}

// Rows in the grouped order, and FP8 rows' scales.
struct Gathered {
  device::cuda::DeviceBuffer index;
  device::cuda::DeviceBuffer x;
  device::cuda::DeviceBuffer scales;
  std::int64_t scale_stride = 0;
};

Gathered gather(const GroupedWorld& world, const GroupedRows& rows) {
  const auto count = static_cast<std::int64_t>(rows.index.size());
  Gathered out{
      .index = on_gpu(world.stream, rows.index),
      .x = gpu_bytes(count * row_bytes(world.shape) + 16),
      .scales = {},
      .scale_stride = count};
  copy_rows(
      world.stream,
      {.rows = world.pool.data(),
       .index = out.index.as<std::int32_t>(),
       .count = count,
       .row_bytes = row_bytes(world.shape),
       .out = out.x.data()}
  );
  if (world.shape.format != GroupedFormat::Fp8Blocks) return out;
  const std::int64_t blocks = world.shape.inputs / 128;
  out.scales = gpu_bytes(blocks * out.scale_stride * 4 + 16);
  for (std::int64_t block = 0; block < blocks; ++block) {
    copy_rows(
        world.stream,
        {.rows = world.pool_scales.as<float>() + block * world.pool_rows,
         .index = out.index.as<std::int32_t>(),
         .count = count,
         .row_bytes = 4,
         .out = out.scales.as<float>() + block * out.scale_stride}
    );
  }
  return out;
}

}  // namespace

device::cuda::DeviceBuffer gpu_bytes(std::int64_t bytes) {
  return device::cuda::DeviceBuffer::allocate(static_cast<std::size_t>(bytes), "a test").value();
}

std::vector<std::int32_t> starts_of(const std::vector<std::int32_t>& counts) {
  std::vector<std::int32_t> starts{0};
  for (const std::int32_t count : counts) {
    starts.push_back(starts.back() + count);
  }
  return starts;
}

GroupedWorld::GroupedWorld(
    device::cuda::Stream& gpu_stream,
    const GroupedShape& wanted,
    std::int64_t rows,
    std::uint32_t seed
)
    : stream(gpu_stream), shape(wanted), pool_rows(rows) {
  const std::int64_t values = std::int64_t{shape.experts} * shape.outputs * shape.inputs;
  const std::int64_t bytes =
      grouped_packed_bytes(shape.format, shape.experts, shape.outputs, shape.inputs);
  stored = gpu_bytes(bytes);
  packed = gpu_bytes(bytes);
  pool = gpu_bytes(pool_rows * row_bytes(shape));
  if (shape.format == GroupedFormat::BFloat16) {
    fill_bf16(stream, stored.data(), values, seed);
    fill_bf16(stream, pool.data(), pool_rows * shape.inputs, seed + 1);
  } else {
    const std::int64_t blocks = shape.inputs / 128;
    fill_fp8(stream, stored.data(), values, seed);
    fill_fp8(stream, pool.data(), pool_rows * shape.inputs, seed + 1);
    weight_scales = gpu_bytes(values / 128 / 128 * 4);
    pool_scales = gpu_bytes(blocks * pool_rows * 4);
    fill_floats(stream, weight_scales.as<float>(), values / 128 / 128, {0.5F, 2.0F}, seed + 2);
    fill_floats(stream, pool_scales.as<float>(), blocks * pool_rows, {0.5F, 2.0F}, seed + 3);
  }
  const bool gated = shape.output == GroupedOutput::SwiGlu;
  pack_grouped_weights(
      stream,
      {.stored = stored.data(),
       .packed = packed.data(),
       .experts = shape.experts,
       .outputs = shape.outputs,
       .inputs = shape.inputs,
       .format = shape.format,
       .layout = gated ? GroupedLayout::Gated : GroupedLayout::Plain}
  );
}

GroupedResult run_grouped(
    const GroupedWorld& world,
    const GroupedRows& rows,
    const GroupedTile& tile,
    std::int64_t guard
) {
  const auto count = static_cast<std::int64_t>(rows.index.size());
  GroupedShape shape = world.shape;
  shape.rows_max = std::max<std::int64_t>(count, 1);
  const std::int64_t row_words = shape.output == GroupedOutput::SwiGlu    ? shape.outputs / 2
                                 : shape.output == GroupedOutput::Float32 ? shape.outputs * 2
                                                                          : shape.outputs;
  const auto words = static_cast<std::size_t>((count + guard) * row_words);
  const auto out = gpu_bytes(static_cast<std::int64_t>(words) * 2);
  world.stream.fill(out.data(), 0xFF, words * 2);
  const auto starts = on_gpu(world.stream, starts_of(rows.counts));
  const Gathered gathered = gather(world, rows);
  const auto weights = on_gpu(world.stream, rows.weights);
  GroupedGemmTask task{
      .shape = shape,
      .weights = {.packed = world.packed.data(), .scales = world.weight_scales.as<float>()},
      .x = gathered.x.data(),
      .x_rows = std::max<std::int64_t>(count, 1),
      .x_scales = gathered.scales.as<float>(),
      .x_scale_stride = gathered.scale_stride,
      .starts = starts.as<std::int32_t>(),
      .row_weights = rows.weights.empty() ? nullptr : weights.as<float>(),
      .out = out.data(),
      .overlap_launch = world.early,
      .starts_settled = world.early};
  if (shape.gathered) {
    task.x = world.pool.data();
    task.x_rows = world.pool_rows;
    task.x_index = gathered.index.as<std::int32_t>();
    task.x_scales = world.pool_scales.as<float>();
    task.x_scale_stride = world.pool_rows;
  }
  grouped_gemm(world.stream, task, tile);
  return {
      .words = from_gpu<std::uint16_t>(world.stream, out.data(), words), .row_words = row_words};
}

std::vector<double> reference_of(const GroupedWorld& world, const GroupedRows& rows) {
  const auto count = static_cast<std::int64_t>(rows.index.size());
  const auto out = gpu_bytes(count * world.shape.outputs * 8);
  const auto starts = on_gpu(world.stream, starts_of(rows.counts));
  const Gathered gathered = gather(world, rows);
  grouped_reference(
      world.stream,
      {.shape = world.shape,
       .stored = world.stored.data(),
       .weight_scales = world.weight_scales.as<float>(),
       .x = gathered.x.data(),
       .x_scales = gathered.scales.as<float>(),
       .x_scale_stride = gathered.scale_stride,
       .starts = starts.as<std::int32_t>(),
       .rows = count,
       .out = out.as<double>()}
  );
  return from_gpu<double>(
      world.stream, out.data(), static_cast<std::size_t>(count * world.shape.outputs)
  );
}

std::string text_of(const GroupedShape& shape, const GroupedTile& tile) {
  constexpr const char* kOutputs[] = {"bf16", "float", "swiglu"};
  return fmt::format(
      "{} experts {} x {} {} {}{}, tile {} x {} cluster {}",
      shape.experts,
      shape.outputs,
      shape.inputs,
      shape.format == GroupedFormat::BFloat16 ? "bf16" : "fp8",
      kOutputs[static_cast<int>(shape.output)],
      shape.gathered ? " gathered" : "",
      tile.outputs,
      tile.rows,
      tile.cluster
  );
}

}  // namespace pleiad::kernels::cuda
