#include "ep/expert_runner.h"

#include "base/check.h"
#include "ep/expert_groups.h"
#include "kernels/row_ops.h"

namespace pleiad::ep {
namespace {

std::size_t floats(std::int64_t count) {
  return static_cast<std::size_t>(count) * sizeof(float);
}

std::size_t ints(std::int64_t count) {
  return static_cast<std::size_t>(count) * sizeof(std::int32_t);
}

const float* bias_of(const std::vector<std::vector<float>>& biases, std::size_t expert) {
  return biases.empty() ? nullptr : biases[expert].data();
}

}  // namespace

// Names as in ExpertRunner's regions.
struct ExpertRunner::Arrays {
  ExpertGroups groups;
  float* gate_up = nullptr;         // [assignments, 2 * intermediate]
  float* product = nullptr;         // [assignments, intermediate]
  float* out = nullptr;             // [assignments, hidden]
  float* shared_gate_up = nullptr;  // [rows, 2 * shared_intermediate]
  float* shared_product = nullptr;  // [rows, shared_intermediate]
};

ExpertRunner::ExpertRunner(
    const MoeShape& shape,
    const Limits& limits,
    device::ArenaPlan& plan,
    int first,
    int last
)
    : shape_(shape),
      width_(shape.intermediate / limits.moe_tp),
      partial_sums_(expert_partial_sums(shape) / limits.moe_tp) {
  PLEIAD_CHECK(partial_sums_ * limits.moe_tp == expert_partial_sums(shape));
  const std::int64_t lines = limits.assignments_max;
  const std::int64_t shared = limits.shared_rows_max * shape.shared_intermediate;
  const auto reserve = [&](std::string_view name, std::size_t bytes) {
    return plan.reserve(name, bytes, first, last);
  };
  first_ = reserve("group starts", ints(shape.gate.experts + 1));
  rows_ = reserve("group rows", ints(lines));
  line_of_ = reserve("group lines", ints(lines));
  gate_up_ = reserve("expert gate+up", floats(lines * 2 * width_));
  product_ = reserve("expert product", floats(lines * width_));
  out_ = reserve("expert out", floats(lines * shape.hidden));
  shared_gate_up_ = reserve("shared gate+up", floats(2 * shared));
  shared_product_ = reserve("shared product", floats(shared));
  tasks_.resize(static_cast<std::size_t>(shape.gate.experts) + 1);
}

ExpertRunner::Arrays ExpertRunner::arrays(device::Scratch& memory, std::size_t assignments) const {
  const auto experts = static_cast<std::size_t>(shape_.gate.experts);
  return {
      .groups =
          {
              .first = memory.get<std::int32_t>(first_).first(experts + 1),
              .rows = memory.get<std::int32_t>(rows_).first(assignments),
              .line_of = memory.get<std::int32_t>(line_of_).first(assignments),
          },
      .gate_up = memory.get<float>(gate_up_).data(),
      .product = memory.get<float>(product_).data(),
      .out = memory.get<float>(out_).data(),
      .shared_gate_up = memory.get<float>(shared_gate_up_).data(),
      .shared_product = memory.get<float>(shared_product_).data(),
  };
}

ExpertOutput ExpertRunner::run(
    const kernels::Context& context,
    device::Scratch& memory,
    const ExpertBatch& batch,
    const SharedBatch* shared
) {
  PLEIAD_CHECK(batch.weights != nullptr && batch.x != nullptr);
  const Arrays arrays = this->arrays(memory, batch.experts.size());
  group_by_expert(batch.experts, batch.rows, arrays.groups);
  up(context, batch, arrays, shared);
  down(context, batch, arrays, shared);
  return {.lines = arrays.out, .line_of = arrays.groups.line_of};
}

void ExpertRunner::run_shared(
    const kernels::Context& context,
    device::Scratch& memory,
    const SharedBatch& shared
) {
  PLEIAD_CHECK(shape_.shared_intermediate > 0);
  const Arrays arrays = this->arrays(memory, 0);
  kernels::gemm(context, shared_up(arrays, &shared));
  kernels::silu_mul(
      context,
      {.gate_up = arrays.shared_gate_up,
       .rows = shared.rows,
       .width = shape_.shared_intermediate,
       .y = arrays.shared_product}
  );
  kernels::gemm(context, shared_down(arrays, &shared));
}

kernels::GemmTask ExpertRunner::shared_up(const Arrays& arrays, const SharedBatch* shared) const {
  if (shared == nullptr || shape_.shared_intermediate == 0) return {};
  return {
      .x = shared->x,
      .x_stride = shape_.hidden,
      .rows = shared->rows,
      .weight = &shared->weights->shared_gate_up,
      .y = arrays.shared_gate_up,
      .y_stride = 2 * shape_.shared_intermediate,
  };
}

kernels::GemmTask ExpertRunner::shared_down(const Arrays& arrays, const SharedBatch* shared) const {
  if (shared == nullptr || shape_.shared_intermediate == 0) return {};
  return {
      .x = arrays.shared_product,
      .x_stride = shape_.shared_intermediate,
      .rows = shared->rows,
      .weight = &shared->weights->shared_down,
      .y = shared->out,
      .y_stride = shape_.hidden,
  };
}

// gate_up = x [gate | up] of each expert's rows, then their activation.
void ExpertRunner::up(
    const kernels::Context& context,
    const ExpertBatch& batch,
    const Arrays& arrays,
    const SharedBatch* shared
) {
  const std::int64_t width = 2 * width_;
  const auto experts = static_cast<std::size_t>(shape_.gate.experts);
  for (std::size_t e = 0; e < experts; ++e) {
    const std::int64_t begin = arrays.groups.first[e];
    tasks_[e] = {
        .x = batch.x,
        .x_stride = shape_.hidden,
        .x_rows = arrays.groups.rows.data() + begin,
        .rows = arrays.groups.first[e + 1] - begin,
        .weight = &batch.weights->gate_up[e],
        .bias = bias_of(batch.weights->gate_up_bias, e),
        .y = arrays.gate_up + begin * width,
        .y_stride = width,
    };
  }
  tasks_[experts] = shared_up(arrays, shared);
  kernels::grouped_gemm(context, tasks_);
  activate(context, arrays, static_cast<std::int64_t>(batch.experts.size()));
  if (tasks_[experts].rows == 0) return;
  kernels::silu_mul(
      context,
      {.gate_up = arrays.shared_gate_up,
       .rows = shared->rows,
       .width = shape_.shared_intermediate,
       .y = arrays.shared_product}
  );
}

// product = activation of gate_up, for the routed experts' lines.
void ExpertRunner::activate(
    const kernels::Context& context,
    const Arrays& arrays,
    std::int64_t lines
) const {
  if (shape_.activation_limit > 0) {
    kernels::clamped_swiglu(
        context,
        {.gate_up = arrays.gate_up,
         .rows = lines,
         .width = width_,
         .limit = shape_.activation_limit,
         .y = arrays.product}
    );
  } else {
    kernels::silu_mul(
        context, {.gate_up = arrays.gate_up, .rows = lines, .width = width_, .y = arrays.product}
    );
  }
}

void ExpertRunner::down(
    const kernels::Context& context,
    const ExpertBatch& batch,
    const Arrays& arrays,
    const SharedBatch* shared
) {
  const std::int64_t width = width_;
  const auto experts = static_cast<std::size_t>(shape_.gate.experts);
  for (std::size_t e = 0; e < experts; ++e) {
    const std::int64_t begin = arrays.groups.first[e];
    tasks_[e] = {
        .x = arrays.product + begin * width,
        .x_stride = width,
        .rows = arrays.groups.first[e + 1] - begin,
        .weight = &batch.weights->down[e],
        .bias = bias_of(batch.weights->down_bias, e),
        .y = arrays.out + begin * shape_.hidden,
        .y_stride = shape_.hidden,
        .partial_sums = partial_sums_,
    };
  }
  tasks_[experts] = shared_down(arrays, shared);
  kernels::grouped_gemm(context, tasks_);
}

}  // namespace pleiad::ep
