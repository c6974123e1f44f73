#include "model/gqa_layer.h"

#include <algorithm>

#include "base/check.h"
#include "kernels/gemm.h"
#include "kernels/row_ops.h"
#include "model/attention_out.h"

namespace pleiad::model {
namespace {

const float* data_or_null(const std::vector<float>& values) {
  return values.empty() ? nullptr : values.data();
}

kernels::AttentionPages lines_of(const GqaShape& shape) {
  return kernels::grouped_pages(shape.kv_heads, shape.head, shape.head);
}

}  // namespace

GqaShape heads_of_part(const GqaShape& whole, const TensorPlace& place) {
  GqaShape part = whole;
  part.heads = part_of(whole.heads, place.parts, place.part).count;
  part.kv_heads = std::max<std::int64_t>(1, whole.kv_heads / place.parts);
  return part;
}

std::int64_t first_kv_head(const GqaShape& whole, const TensorPlace& place) {
  return whole.kv_heads * place.part / place.parts;
}

struct GqaRunner::Arrays {
  float* qkv = nullptr;       // [rows, (heads + 2 * kv_heads) * head]
  float* attended = nullptr;  // [rows, heads * head]
  std::span<float> attention_scratch;
};

GqaRunner::GqaRunner(
    const GqaShape& whole,
    const TensorPlace& place,
    const AttentionLimits& limits,
    device::ArenaPlan& plan,
    int first,
    int last
)
    : shape_(heads_of_part(whole, place)),
      all_heads_(whole.heads),
      hidden_(part_of(whole.hidden, place.parts, place.part)) {
  const GqaShape& shape = shape_;
  const auto reserve = [&](std::string_view name, std::int64_t floats_per_row) {
    const auto floats = static_cast<std::size_t>(floats_per_row * limits.rows_max);
    return plan.reserve(name, floats * sizeof(float), first, last);
  };
  qkv_ = reserve("queries, keys, values", shape.qkv());
  attended_ = reserve("attended values", shape.query());
  delta_ = reserve("attention out", hidden_.count);
  const std::size_t scratch_floats = kernels::paged_attention_scratch(
      limits.workers, limits.rows_max, shape.heads, lines_of(shape), limits.context_max
  );
  attention_scratch_ =
      plan.reserve("attention partials", scratch_floats * sizeof(float), first, last);
}

Result<void> GqaRunner::run(
    const kernels::Context& context,
    device::Scratch& memory,
    TensorExchange& tensor,
    const GqaWeights& weights,
    const AttentionStep& step
) const {
  PLEIAD_CHECK(step.x != nullptr && step.residual != nullptr);
  const Arrays a{
      .qkv = memory.get<float>(qkv_).data(),
      .attended = memory.get<float>(attended_).data(),
      .attention_scratch = memory.get<float>(attention_scratch_),
  };
  project(context, weights, step, a);
  attend(context, weights, step, a);
  return project_out(
      context,
      memory,
      tensor,
      {.values = a.attended,
       .head = shape_.head,
       .heads = all_heads_,
       .out = &weights.out,
       .bias = data_or_null(weights.out_bias),
       .delta = memory.get<float>(delta_).data(),
       .hidden = shape_.hidden},
      step
  );
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
