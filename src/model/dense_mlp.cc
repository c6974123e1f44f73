#include "model/dense_mlp.h"

#include "kernels/gemm.h"
#include "kernels/row_ops.h"

namespace pleiad::model {

DenseMlpRunner::DenseMlpRunner(
    const Shape& shape,
    const TensorPlace& place,
    std::int64_t rows_max,
    device::ArenaPlan& plan,
    int first,
    int last
)
    : shape_(shape),
      intermediate_(part_of(shape.intermediate, place.parts, place.part)),
      hidden_(part_of(shape.hidden, place.parts, place.part)) {
  const auto reserve = [&](std::string_view name, std::int64_t floats_per_row) {
    const auto floats = static_cast<std::size_t>(floats_per_row * rows_max);
    return plan.reserve(name, floats * sizeof(float), first, last);
  };
  gate_up_ = reserve("mlp gate+up", 2 * intermediate_.count);
  product_ = reserve("mlp product", intermediate_.count);
  delta_ = reserve("mlp out", hidden_.count);
}

Result<void> DenseMlpRunner::run(
    const kernels::Context& context,
    device::Scratch& memory,
    TensorExchange& tensor,
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
       .y_stride = 2 * intermediate_.count}
  );
  kernels::silu_mul(
      context, {.gate_up = gate_up, .rows = rows, .width = intermediate_.count, .y = product}
  );
  PLEIAD_TRY(
      products,
      tensor.gather(
          context,
          memory,
          {.own = product,
           .rows = rows,
           .width = shape_.intermediate,
           .dtype = wire_dtype(context),
           .step = "gather of an MLP's products"}
      )
  );
  kernels::gemm(
      context,
      {.x = products,
       .x_stride = shape_.intermediate,
       .rows = rows,
       .weight = &weights.down,
       .y = delta,
       .y_stride = hidden_.count,
       .round_output = true}
  );
  return tensor.add(
      context,
      memory,
      {.own = delta,
       .rows = rows,
       .width = shape_.hidden,
       .dtype = wire_dtype(context),
       .step = "gather of an MLP's outputs"},
      residual
  );
}

}  // namespace pleiad::model
