#include "model/attention_out.h"

#include "kernels/gemm.h"

namespace pleiad::model {

Result<void> project_out(
    const kernels::Context& context,
    device::Scratch& memory,
    TensorExchange& tensor,
    const AttentionOut& last,
    const AttentionStep& step
) {
  const auto rows = static_cast<std::int64_t>(step.rows.size());
  const std::int64_t width = last.heads * last.head;
  PLEIAD_TRY(
      values,
      tensor.gather(
          context,
          memory,
          {.own = last.values,
           .rows = rows,
           .width = width,
           .unit = last.head,
           .dtype = wire_dtype(context),
           .step = "gather of attended values"}
      )
  );
  kernels::gemm(
      context,
      {.x = values,
       .x_stride = width,
       .rows = rows,
       .weight = last.out,
       .bias = last.bias,
       .y = last.delta,
       .y_stride = last.out->outputs(),
       .round_output = true}
  );
  return tensor.add(
      context,
      memory,
      {.own = last.delta,
       .rows = rows,
       .width = last.hidden,
       .dtype = wire_dtype(context),
       .step = "gather of attention's outputs"},
      step.residual
  );
}

}  // namespace pleiad::model
