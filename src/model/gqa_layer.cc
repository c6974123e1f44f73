#include "model/gqa_layer.h"

#include "base/check.h"
#include "kernels/gemm.h"
#include "kernels/row_ops.h"

namespace pleiad::model {
namespace {

const float* data_or_null(const std::vector<float>& values) {
  return values.empty() ? nullptr : values.data();
}

kernels::AttentionPages lines_of(const GqaShape& shape) {
  return kernels::grouped_pages(shape.kv_heads, shape.head, shape.head);
}

}  // namespace

struct GqaRunner::Arrays {
  float* qkv = nullptr;       // [rows, (heads + 2 * kv_heads) * head]
  float* attended = nullptr;  // [rows, heads * head]
  float* delta = nullptr;     // [rows, hidden]
  std::span<float> attention_scratch;
};

GqaRunner::GqaRunner(
    const GqaShape& shape,
    const AttentionLimits& limits,
    device::ArenaPlan& plan,
    int first,
    int last
)
    : shape_(shape) {
  const auto reserve = [&](std::string_view name, std::int64_t floats_per_row) {
    const auto floats = static_cast<std::size_t>(floats_per_row * limits.rows_max);
    return plan.reserve(name, floats * sizeof(float), first, last);
  };
  qkv_ = reserve("queries, keys, values", shape.qkv());
  attended_ = reserve("attended values", shape.query());
  delta_ = reserve("attention out", shape.hidden);
  const std::size_t scratch_floats = kernels::paged_attention_scratch(
      limits.workers, limits.rows_max, shape.heads, lines_of(shape), limits.context_max
  );
  attention_scratch_ =
      plan.reserve("attention partials", scratch_floats * sizeof(float), first, last);
}

void GqaRunner::run(
    const kernels::Context& context,
    device::Scratch& memory,
    const GqaWeights& weights,
    const AttentionStep& step
) const {
  PLEIAD_CHECK(step.x != nullptr && step.residual != nullptr);
  const Arrays a{
      .qkv = memory.get<float>(qkv_).data(),
      .attended = memory.get<float>(attended_).data(),
      .delta = memory.get<float>(delta_).data(),
      .attention_scratch = memory.get<float>(attention_scratch_),
  };
  const auto rows = static_cast<std::int64_t>(step.rows.size());
  project(context, weights, step, a);
  attend(context, weights, step, a);
  kernels::gemm(
      context,
      {.x = a.attended,
       .x_stride = shape_.query(),
       .rows = rows,
       .weight = &weights.out,
       .bias = data_or_null(weights.out_bias),
       .y = a.delta,
       .y_stride = shape_.hidden,
       .round_output = true}
  );
  kernels::add_rows(context, a.delta, rows * shape_.hidden, step.residual);
}

// Queries, and keys and values into the cache.
void GqaRunner::project(
    const kernels::Context& context,
    const GqaWeights& weights,
    const AttentionStep& step,
    const Arrays& a
) const {
  const auto rows = static_cast<std::int64_t>(step.rows.size());
  const std::int64_t width = shape_.qkv();
  float* keys = a.qkv + shape_.query();
  kernels::gemm(
      context,
      {.x = step.x,
       .x_stride = shape_.hidden,
       .rows = rows,
       .weight = &weights.qkv,
       .bias = data_or_null(weights.qkv_bias),
       .y = a.qkv,
       .y_stride = width,
       .round_output = true}
  );
  if (shape_.qk_norm) {
    const auto norm = [&](float* x, std::int64_t heads, const std::vector<float>& weight) {
      kernels::rms_norm(
          context,
          {.x = x,
           .x_stride = width,
           .rows = rows,
           .heads = heads,
           .width = shape_.head,
           .weight = weight.data(),
           .epsilon = shape_.rms_epsilon,
           .y = x,
           .y_stride = width}
      );
    };
    norm(a.qkv, shape_.heads, weights.q_norm);
    norm(keys, shape_.kv_heads, weights.k_norm);
  }
  turn(context, step, a.qkv, shape_.heads);
  turn(context, step, keys, shape_.kv_heads);
  const std::int64_t kv_width = shape_.kv_heads * shape_.head;
  kernels::store_lines(
      context,
      {.parts =
           {{{.x = keys, .stride = width, .width = kv_width},
             {.x = keys + kv_width, .stride = width, .width = kv_width}}},
       .rows = step.rows,
       .pages = step.cache.with(lines_of(shape_))}
  );
}

// Rotates the first elements of `count` heads of each row.
void GqaRunner::turn(
    const kernels::Context& context,
    const AttentionStep& step,
    float* heads,
    std::int64_t count
) const {
  kernels::apply_rope(
      context,
      {.x = heads,
       .row_stride = shape_.qkv(),
       .head_stride = shape_.head,
       .rows = static_cast<std::int64_t>(step.rows.size()),
       .heads = count,
       .width = shape_.rope,
       .cos_sin = step.cos_sin,
       .pairs = shape_.rope_pairs}
  );
}

void GqaRunner::attend(
    const kernels::Context& context,
    const GqaWeights& weights,
    const AttentionStep& step,
    const Arrays& a
) const {
  kernels::paged_attention(
      context,
      {.query =
           {{{.x = a.qkv,
              .row_stride = shape_.qkv(),
              .head_stride = shape_.head,
              .width = shape_.head},
             {}}},
       .rows = step.rows,
       .heads = shape_.heads,
       .scale = shape_.scale,
       .window = step.window,
       .sinks = data_or_null(weights.sinks),
       .pages = step.cache.with(lines_of(shape_)),
       .out = a.attended,
       .scratch = a.attention_scratch}
  );
}

}  // namespace pleiad::model
