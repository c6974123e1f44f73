#include "model/cuda/gpu_mlp.h"

#include "kernels/cuda/expert_route.h"
#include "kernels/cuda/tree_combine.h"

namespace pleiad::model::cuda {

using device::DType;
using device::cuda::DeviceScratch;

GpuMlpRunner::GpuMlpRunner(
    std::int64_t hidden,
    std::int64_t intermediate,
    const GpuLimits& limits,
    DType activation,
    device::ArenaPlan& plan
)
    : hidden_(hidden), intermediate_(intermediate), activation_(activation) {
  gate_up_ = reserve_rows(plan, "mlp gate+up", limits, 2 * intermediate, DType::F32);
  product_ = reserve_rows(plan, "mlp product", limits, intermediate, activation);
}

Result<void> GpuMlpRunner::prepare(Products& products, const GpuMlp& weights, DType out_dtype)
    const {
  PLEIAD_TRY(products.prepare(
      weights.gate_up,
      nullptr,
      {.x_stride = hidden_, .y_stride = 2 * intermediate_, .y_dtype = DType::F32}
  ));
  return products.prepare(
      weights.down, nullptr, {.x_stride = intermediate_, .y_stride = hidden_, .y_dtype = out_dtype}
  );
}

void GpuMlpRunner::run(
    const GpuContext& context,
    const DeviceScratch& memory,
    const GpuMlp& weights,
    std::int64_t rows,
    const DeviceRows& x,
    const DeviceRows& out
) const {
  const DeviceRows gate_up = rows_at(memory, gate_up_, 2 * intermediate_, DType::F32);
  const DeviceRows product = rows_at(memory, product_, intermediate_, activation_);
  context.products->run(*context.stream, rows, weights.gate_up, nullptr, x, gate_up);
  kernels::cuda::swiglu(
      *context.stream, {.gate_up = gate_up, .rows = rows, .width = intermediate_, .y = product}
  );
  context.products->run(*context.stream, rows, weights.down, nullptr, product, out);
}

GpuMoeRunner::GpuMoeRunner(
    const ep::MoeShape& shape,
    const GpuLimits& limits,
    DType activation,
    device::ArenaPlan& plan
)
    : shape_(shape),
      activation_(activation),
      lines_(shape.gate.topk + grouped_shared_experts(shape)),
      shared_(shape.hidden, shape.shared_intermediate, limits, activation, plan) {
  const auto reserve = [&](const char* name, std::int64_t elements, DType dtype) {
    return reserve_rows(plan, name, limits, elements, dtype);
  };
  const auto reserve_words = [&](const char* name, std::int64_t words) {
    return plan.reserve(name, static_cast<std::size_t>(words) * sizeof(std::int32_t), 0, 0);
  };
  const std::int64_t experts = shape.gate.experts + grouped_shared_experts(shape);
  logits_ = reserve("gate logits", shape.gate.experts, DType::F32);
  ids_ = reserve("expert ids", lines_, DType::I32);
  weights_ = reserve("expert weights", lines_, DType::F32);
  starts_ = reserve_words("group starts", experts + 1);
  group_scratch_ = reserve_words(
      "group counts", kernels::cuda::group_scratch_ints(limits.rows_max, lines_, experts)
  );
  x_rows_ = reserve("group rows", lines_, DType::I32);
  line_of_ = reserve("group lines", lines_, DType::I32);
  line_weights_ = reserve("weights of lines", lines_, DType::F32);
  arrivals_ = reserve_words("arrivals", 1);
  gate_up_ = reserve("expert gate+up", lines_ * 2 * shape.intermediate, DType::F32);
  product_ = reserve("expert product", lines_ * shape.intermediate, activation);
  expert_out_ = reserve("expert out", lines_ * shape.hidden, DType::F32);
  const bool shared = shape.shared_intermediate > 0;
  shared_out_ = reserve("shared out", shared ? shape.hidden : 0, DType::F32);
}

void GpuMoeRunner::clear(device::cuda::Stream& stream, const DeviceScratch& memory) const {
  stream.fill(memory.get<std::uint32_t>(arrivals_), 0, sizeof(std::uint32_t));
}

Result<void> GpuMoeRunner::prepare(Products& products, const GpuMoe& weights) const {
  return shared_.prepare(products, weights.shared, DType::F32);
}

void GpuMoeRunner::run(
    const GpuContext& context,
    const DeviceScratch& memory,
    const GpuMoe& weights,
    const Step& step
) const {
  route(context, memory, weights, step);
  run_experts(context, memory, weights, step);
  if (weights.shared.gate_up.outputs > 0) {
    const DeviceRows shared = rows_at(memory, shared_out_, shape_.hidden, DType::F32);
    shared_.run(context, memory, weights.shared, step.rows, step.x, shared);
  }
  combine(context, memory, weights, step);
}

void GpuMoeRunner::route(
    const GpuContext& context,
    const DeviceScratch& memory,
    const GpuMoe& weights,
    const Step& step
) const {
  kernels::cuda::route_to_experts(
      *context.stream,
      {.norm =
           {.x = {.data = step.residual, .stride = shape_.hidden, .dtype = DType::F32},
            .add = step.delta,
            .keeps_x = true,
            .rows = step.rows,
            .width = shape_.hidden,
            .weight = step.norm,
            .epsilon = step.epsilon,
            .y = step.x},
       .gate =
           {.x = step.x,
            .rows = step.rows,
            .weight = weights.gate,
            .bias = weights.logit_bias,
            .logits = memory.get<float>(logits_)},
       .select =
           {.options = shape_.gate,
            .logits = memory.get<float>(logits_),
            .bias = weights.choice_bias,
            .rows = step.rows,
            .shared = weights.shared_experts,
            .ids = memory.get<std::int32_t>(ids_),
            .weights = memory.get<float>(weights_)},
       .group =
           {.ids = memory.get<std::int32_t>(ids_),
            .positions = step.positions,
            .weights = memory.get<float>(weights_),
            .rows = step.rows,
            .topk = shape_.gate.topk + weights.shared_experts,
            .experts = shape_.gate.experts + weights.shared_experts,
            .starts = memory.get<std::int32_t>(starts_),
            .x_rows = memory.get<std::int32_t>(x_rows_),
            .line_of = memory.get<std::int32_t>(line_of_),
            .line_weights = memory.get<float>(line_weights_),
            .counted = shape_.gate.experts,
            .chosen = step.expert_tokens,
            .scratch = memory.get<std::int32_t>(group_scratch_)},
       .arrivals = memory.get<std::uint32_t>(arrivals_)}
  );
}

void GpuMoeRunner::combine(
    const GpuContext& context,
    const DeviceScratch& memory,
    const GpuMoe& weights,
    const Step& step
) const {
  const bool is_grouped = weights.grouped_gate_up.packed != nullptr;
  const DType line_dtype = is_grouped ? DType::BF16 : DType::F32;
  DeviceRows shared;
  if (weights.shared.gate_up.outputs > 0) {
    shared = rows_at(memory, shared_out_, shape_.hidden, DType::F32);
  }
  kernels::cuda::tree_combine(
      *context.stream,
      {.lines = rows_at(memory, expert_out_, shape_.hidden, line_dtype),
       .line_of = memory.get<std::int32_t>(line_of_),
       .ids = memory.get<std::int32_t>(ids_),
       .weights = memory.get<float>(weights_),
       .positions = step.positions,
       .rows = step.rows,
       .topk = shape_.gate.topk,
       .shared_experts = weights.shared_experts,
       .hidden = shape_.hidden,
       .shared = shared,
       .activation = activation_,
       .add = step.delta,
       .residual = step.residual,
       .norm = step.next_norm,
       .epsilon = step.epsilon,
       .y = step.x,
       .settled = is_grouped}
  );
}

void GpuMoeRunner::run_experts(
    const GpuContext& context,
    const DeviceScratch& memory,
    const GpuMoe& weights,
    const Step& step
) const {
  const std::int64_t lines = step.rows * shape_.gate.topk;
  if (weights.grouped_gate_up.packed != nullptr) {
    run_grouped(context, memory, weights, step);
    return;
  }
  const DeviceRows gate_up = rows_at(memory, gate_up_, 2 * shape_.intermediate, DType::F32);
  const DeviceRows product = rows_at(memory, product_, shape_.intermediate, activation_);
  kernels::cuda::grouped_product(
      *context.stream,
      {.x = step.x,
       .x_rows = memory.get<std::int32_t>(x_rows_),
       .starts = memory.get<std::int32_t>(starts_),
       .lines_max = lines,
       .experts = shape_.gate.experts,
       .weights = weights.gate_up.table,
       .like = weights.gate_up.matrices.front(),
       .bias = weights.gate_up_bias,
       .y = gate_up}
  );
  kernels::cuda::swiglu(
      *context.stream,
      {.gate_up = gate_up,
       .rows = lines,
       .width = shape_.intermediate,
       .limit = shape_.activation_limit,
       .y = product}
  );
  kernels::cuda::grouped_product(
      *context.stream,
      {.x = product,
       .starts = memory.get<std::int32_t>(starts_),
       .lines_max = lines,
       .experts = shape_.gate.experts,
       .weights = weights.down.table,
       .like = weights.down.matrices.front(),
       .bias = weights.down_bias,
       .y = rows_at(memory, expert_out_, shape_.hidden, DType::F32),
       .partial_sums = ep::expert_partial_sums(shape_)}
  );
}

// The same by the tensor cores: activations follow from the first product's sums in registers, and
// lines leave the second one weighted.
void GpuMoeRunner::run_grouped(
    const GpuContext& context,
    const DeviceScratch& memory,
    const GpuMoe& weights,
    const Step& step
) const {
  kernels::cuda::GroupedShape shape{
      .experts = static_cast<std::int32_t>(shape_.gate.experts + weights.shared_experts),
      .outputs = static_cast<std::int32_t>(2 * shape_.intermediate),
      .inputs = static_cast<std::int32_t>(shape_.hidden),
      .rows_max = step.rows * (shape_.gate.topk + weights.shared_experts),
      .output = GroupedOutput::SwiGlu,
      .gathered = true,
  };
  kernels::cuda::grouped_gemm(
      *context.stream,
      {.shape = shape,
       .weights = weights.grouped_gate_up,
       .x = step.x.data,
       .x_rows = step.rows,
       .x_index = memory.get<std::int32_t>(x_rows_),
       .starts = memory.get<std::int32_t>(starts_),
       .out = memory.get<std::byte>(product_),
       .overlap_launch = true}
  );
  shape.outputs = static_cast<std::int32_t>(shape_.hidden);
  shape.inputs = static_cast<std::int32_t>(shape_.intermediate);
  shape.output = GroupedOutput::BFloat16;
  shape.gathered = false;
  kernels::cuda::grouped_gemm(
      *context.stream,
      {.shape = shape,
       .weights = weights.grouped_down,
       .x = memory.get<std::byte>(product_),
       .x_rows = shape.rows_max,
       .starts = memory.get<std::int32_t>(starts_),
       .row_weights = memory.get<float>(line_weights_),
       .out = memory.get<std::byte>(expert_out_),
       .overlap_launch = true,
       .starts_settled = true}
  );
}

}  // namespace pleiad::model::cuda
