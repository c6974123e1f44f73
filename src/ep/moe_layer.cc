#include "ep/moe_layer.h"

#include "base/check.h"
#include "ep/expert_groups.h"
#include "kernels/row_ops.h"
#include "kernels/tree_combine.h"

namespace pleiad::ep {
namespace {

std::size_t floats(std::int64_t count) {
  return static_cast<std::size_t>(count) * sizeof(float);
}

std::size_t ints(std::int64_t count) {
  return static_cast<std::size_t>(count) * sizeof(std::int32_t);
}

}  // namespace

// Names as in MoeRunner's regions.
struct MoeRunner::Arrays {
  float* logits = nullptr;      // [rows, experts]
  std::span<std::int32_t> ids;  // [rows, topk]
  float* weights = nullptr;     // [rows, topk]
  ExpertGroups groups;
  float* gate_up = nullptr;         // [rows * topk, 2 * intermediate]
  float* product = nullptr;         // [rows * topk, intermediate]
  float* out = nullptr;             // [rows * topk, hidden]
  float* shared_gate_up = nullptr;  // [rows, 2 * shared_intermediate]
  float* shared_product = nullptr;  // [rows, shared_intermediate]
  float* shared_out = nullptr;      // [rows, hidden]
};

MoeRunner::MoeRunner(
    const MoeShape& shape,
    std::int64_t rows_max,
    device::ArenaPlan& plan,
    int first,
    int last
)
    : shape_(shape) {
  const std::int64_t experts = shape.gate.experts;
  const std::int64_t lines = rows_max * shape.gate.topk;
  const std::int64_t shared = shape.shared_intermediate;
  const auto reserve = [&](std::string_view name, std::size_t bytes) {
    return plan.reserve(name, bytes, first, last);
  };
  logits_ = reserve("gate logits", floats(rows_max * experts));
  ids_ = reserve("expert ids", ints(lines));
  weights_ = reserve("expert weights", floats(lines));
  first_ = reserve("group starts", ints(experts + 1));
  rows_ = reserve("group rows", ints(lines));
  line_of_ = reserve("group lines", ints(lines));
  gate_up_ = reserve("expert gate+up", floats(lines * 2 * shape.intermediate));
  product_ = reserve("expert product", floats(lines * shape.intermediate));
  out_ = reserve("expert out", floats(lines * shape.hidden));
  shared_gate_up_ = reserve("shared gate+up", floats(rows_max * 2 * shared));
  shared_product_ = reserve("shared product", floats(rows_max * shared));
  shared_out_ = reserve("shared out", shared == 0 ? 0 : floats(rows_max * shape.hidden));
  tasks_.resize(static_cast<std::size_t>(experts) + 1);
}

MoeRunner::Arrays MoeRunner::arrays(device::Scratch& memory, std::int64_t rows) const {
  const auto experts = static_cast<std::size_t>(shape_.gate.experts);
  const auto lines = static_cast<std::size_t>(rows * shape_.gate.topk);
  return {
      .logits = memory.get<float>(logits_).data(),
      .ids = memory.get<std::int32_t>(ids_).first(lines),
      .weights = memory.get<float>(weights_).data(),
      .groups =
          {
              .first = memory.get<std::int32_t>(first_).first(experts + 1),
              .rows = memory.get<std::int32_t>(rows_).first(lines),
              .line_of = memory.get<std::int32_t>(line_of_).first(lines),
          },
      .gate_up = memory.get<float>(gate_up_).data(),
      .product = memory.get<float>(product_).data(),
      .out = memory.get<float>(out_).data(),
      .shared_gate_up = memory.get<float>(shared_gate_up_).data(),
      .shared_product = memory.get<float>(shared_product_).data(),
      .shared_out = memory.get<float>(shared_out_).data(),
  };
}

void MoeRunner::run(const kernels::Context& context, device::Scratch& memory, const MoeStep& step) {
  PLEIAD_CHECK(step.weights != nullptr && step.x != nullptr && step.residual != nullptr);
  const Arrays arrays = this->arrays(memory, step.rows);
  route(context, step, arrays);
  project_up(context, step, arrays);
  project_down(context, step, arrays);
  kernels::tree_combine(
      context,
      {.term_rows = arrays.out,
       .row_of = arrays.groups.line_of.data(),
       .ids = arrays.ids.data(),
       .weights = arrays.weights,
       .rows = step.rows,
       .topk = shape_.gate.topk,
       .hidden = shape_.hidden,
       .shared = shape_.shared_intermediate > 0 ? arrays.shared_out : nullptr,
       .residual = step.residual}
  );
}

void MoeRunner::route(const kernels::Context& context, const MoeStep& step, const Arrays& arrays)
    const {
  const MoeWeights& weights = *step.weights;
  kernels::gemm(
      context,
      {.x = step.x,
       .x_stride = shape_.hidden,
       .rows = step.rows,
       .weight = &weights.gate,
       .y = arrays.logits,
       .y_stride = shape_.gate.experts}
  );
  kernels::select_experts(
      context,
      shape_.gate,
      {.logits = arrays.logits,
       .bias = weights.gate_bias.empty() ? nullptr : weights.gate_bias.data(),
       .rows = step.rows,
       .ids = arrays.ids.data(),
       .weights = arrays.weights}
  );
  group_by_expert(arrays.ids, shape_.gate.topk, arrays.groups);
  for (std::size_t e = 0; e < step.expert_tokens.size(); ++e) {
    const std::int32_t count = arrays.groups.first[e + 1] - arrays.groups.first[e];
    step.expert_tokens[e] += static_cast<std::uint64_t>(count);
  }
}

// gate_up = x [gate | up] of each expert's rows, then silu(gate) * up.
void MoeRunner::project_up(
    const kernels::Context& context,
    const MoeStep& step,
    const Arrays& arrays
) {
  const std::int64_t width = 2 * shape_.intermediate;
  const std::int64_t shared = shape_.shared_intermediate;
  const auto experts = static_cast<std::size_t>(shape_.gate.experts);
  for (std::size_t e = 0; e < experts; ++e) {
    const std::int64_t begin = arrays.groups.first[e];
    tasks_[e] = {
        .x = step.x,
        .x_stride = shape_.hidden,
        .x_rows = arrays.groups.rows.data() + begin,
        .rows = arrays.groups.first[e + 1] - begin,
        .weight = &step.weights->gate_up[e],
        .y = arrays.gate_up + begin * width,
        .y_stride = width,
    };
  }
  tasks_[experts] = {
      .x = step.x,
      .x_stride = shape_.hidden,
      .rows = shared > 0 ? step.rows : 0,
      .weight = &step.weights->shared_gate_up,
      .y = arrays.shared_gate_up,
      .y_stride = 2 * shared,
  };
  kernels::grouped_gemm(context, tasks_);

  const std::int64_t lines = step.rows * shape_.gate.topk;
  kernels::silu_mul(
      context,
      {.gate_up = arrays.gate_up, .rows = lines, .width = shape_.intermediate, .y = arrays.product}
  );
  if (shared == 0) return;
  kernels::silu_mul(
      context,
      {.gate_up = arrays.shared_gate_up,
       .rows = step.rows,
       .width = shared,
       .y = arrays.shared_product}
  );
}

void MoeRunner::project_down(
    const kernels::Context& context,
    const MoeStep& step,
    const Arrays& arrays
) {
  const std::int64_t width = shape_.intermediate;
  const std::int64_t shared = shape_.shared_intermediate;
  const auto experts = static_cast<std::size_t>(shape_.gate.experts);
  for (std::size_t e = 0; e < experts; ++e) {
    const std::int64_t begin = arrays.groups.first[e];
    tasks_[e] = {
        .x = arrays.product + begin * width,
        .x_stride = width,
        .rows = arrays.groups.first[e + 1] - begin,
        .weight = &step.weights->down[e],
        .y = arrays.out + begin * shape_.hidden,
        .y_stride = shape_.hidden,
    };
  }
  tasks_[experts] = {
      .x = arrays.shared_product,
      .x_stride = shared,
      .rows = shared > 0 ? step.rows : 0,
      .weight = &step.weights->shared_down,
      .y = arrays.shared_out,
      .y_stride = shape_.hidden,
  };
  kernels::grouped_gemm(context, tasks_);
}

}  // namespace pleiad::ep
