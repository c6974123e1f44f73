#include "model/dense_mlp.h"

#include "kernels/gemm.h"
#include "kernels/row_ops.h"

namespace pleiad::model {

DenseMlpRunner::DenseMlpRunner(
    const Shape& shape,
    std::int64_t rows_max,
    device::ArenaPlan& plan,
    int first,
    int last
)
    : shape_(shape) {
  const auto reserve = [&](std::string_view name, std::int64_t floats_per_row) {
    const auto floats = static_cast<std::size_t>(floats_per_row * rows_max);
    return plan.reserve(name, floats * sizeof(float), first, last);
  };
  gate_up_ = reserve("mlp gate+up", 2 * shape.intermediate);
  product_ = reserve("mlp product", shape.intermediate);
  delta_ = reserve("mlp out", shape.hidden);
}

void DenseMlpRunner::run(
    const kernels::Context& context,
    device::Scratch& memory,
    const DenseMlpWeights& weights,
    const float* x,
    std::int64_t rows,
    float* residual
) const {
  float* gate_up = memory.get<float>(gate_up_).data();
  float* product = memory.get<float>(product_).data();
  float* delta = memory.get<float>(delta_).data();
  kernels::gemm(
      context,
      {.x = x,
       .x_stride = shape_.hidden,
       .rows = rows,
       .weight = &weights.gate_up,
       .y = gate_up,
       .y_stride = 2 * shape_.intermediate}
  );
  kernels::silu_mul(
      context, {.gate_up = gate_up, .rows = rows, .width = shape_.intermediate, .y = product}
  );
  kernels::gemm(
      context,
      {.x = product,
       .x_stride = shape_.intermediate,
       .rows = rows,
       .weight = &weights.down,
       .y = delta,
       .y_stride = shape_.hidden,
       .round_output = true}
  );
  kernels::add_rows(context, delta, rows * shape_.hidden, residual);
}

}  // namespace pleiad::model
