#include "model/mla_layer.h"

#include "base/check.h"
#include "kernels/row_ops.h"
#include "model/attention_out.h"

namespace pleiad::model {

struct MlaRunner::Arrays {
  const MlaWeights& weights;
  float* down = nullptr;   // [rows, first_query + kv_lora + rope]
  float* q_low = nullptr;  // [rows, q_lora]
  float* query = nullptr;  // [rows, heads, nope + rope], query_stride apart
  std::int64_t query_stride = 0;
  float* latent = nullptr;    // [rows, kv_lora]
  float* q_latent = nullptr;  // [rows, heads, kv_lora]
  float* attended = nullptr;  // [rows, heads, kv_lora]
  float* values = nullptr;    // [rows, heads, value]
  std::span<float> attention_scratch;
};

MlaRunner::MlaRunner(
    const MlaShape& whole,
    const TensorPlace& place,
    const AttentionLimits& limits,
    device::ArenaPlan& plan,
    int first,
    int last
)
    : shape_(whole),
      all_heads_(whole.heads),
      hidden_(part_of(whole.hidden, place.parts, place.part)) {
  shape_.heads = part_of(whole.heads, place.parts, place.part).count;
  const MlaShape& shape = shape_;
  const auto reserve = [&](std::string_view name, std::int64_t floats_per_row) {
    const auto floats = static_cast<std::size_t>(floats_per_row * limits.rows_max);
    return plan.reserve(name, floats * sizeof(float), first, last);
  };
  const std::int64_t latent_heads = shape.heads * shape.kv_lora;
  down_ = reserve("attention down", shape.down());
  q_low_ = reserve("low-rank query", shape.q_lora);
  query_ = reserve("query", shape.q_lora > 0 ? shape.query() : 0);
  latent_ = reserve("latent", shape.kv_lora);
  q_latent_ = reserve("latent query", latent_heads);
  attended_ = reserve("attended latent", latent_heads);
  values_ = reserve("attended values", shape.heads * shape.value);
  delta_ = reserve("attention out", hidden_.count);
  const std::size_t scratch_floats = kernels::paged_attention_scratch(
      limits.workers,
      limits.rows_max,
      shape.heads,
      kernels::latent_pages(shape.kv_lora, shape.rope),
      limits.context_max
  );
  attention_scratch_ =
      plan.reserve("attention partials", scratch_floats * sizeof(float), first, last);
  tasks_.resize(static_cast<std::size_t>(shape.heads));
}

Result<void> MlaRunner::run(
    const kernels::Context& context,
    device::Scratch& memory,
    TensorExchange& tensor,
    const MlaWeights& weights,
    const AttentionStep& step
) {
  PLEIAD_CHECK(step.x != nullptr && step.residual != nullptr);
  float* down = memory.get<float>(down_).data();
  // Without a low-rank step the first product already gives the queries.
  const bool low_rank = shape_.q_lora > 0;
  const Arrays a{
      .weights = weights,
      .down = down,
      .q_low = memory.get<float>(q_low_).data(),
      .query = low_rank ? memory.get<float>(query_).data() : down,
      .query_stride = low_rank ? shape_.query() : shape_.down(),
      .latent = memory.get<float>(latent_).data(),
      .q_latent = memory.get<float>(q_latent_).data(),
      .attended = memory.get<float>(attended_).data(),
      .values = memory.get<float>(values_).data(),
      .attention_scratch = memory.get<float>(attention_scratch_),
  };
  project_down(context, step, a);
  make_queries(context, step, a);
  attend(context, step, a);
  carry_out(context, step, a);
  return project_out(
      context,
      memory,
      tensor,
      {.values = a.values,
       .head = shape_.value,
       .heads = all_heads_,
       .out = &weights.out,
       .delta = memory.get<float>(delta_).data(),
       .hidden = shape_.hidden},
      step
  );
}

// Latents and roped keys of the rows, into the cache.
void MlaRunner::project_down(
    const kernels::Context& context,
    const AttentionStep& step,
    const Arrays& a
) const {
  const auto rows = static_cast<std::int64_t>(step.rows.size());
  const std::int64_t width = shape_.down();
  kernels::gemm(
      context,
      {.x = step.x,
       .x_stride = shape_.hidden,
       .rows = rows,
       .weight = &a.weights.down,
       .y = a.down,
       .y_stride = width,
       .round_output = true}
  );
  kernels::rms_norm(
      context,
      {.x = a.down + shape_.first_query(),
       .x_stride = width,
       .rows = rows,
       .width = shape_.kv_lora,
       .weight = a.weights.kv_norm.data(),
       .epsilon = shape_.rms_epsilon,
       .y = a.latent,
       .y_stride = shape_.kv_lora}
  );
  float* key_rope = a.down + shape_.first_query() + shape_.kv_lora;
  kernels::apply_rope(
      context,
      {.x = key_rope,
       .row_stride = width,
       .head_stride = shape_.rope,
       .rows = rows,
       .heads = 1,
       .width = shape_.rope,
       .cos_sin = step.cos_sin,
       .pairs = shape_.rope_pairs}
  );
  kernels::store_lines(
      context,
      {.parts =
           {{{.x = a.latent, .stride = shape_.kv_lora, .width = shape_.kv_lora},
             {.x = key_rope, .stride = width, .width = shape_.rope}}},
       .rows = step.rows,
       .pages = step.cache.with(kernels::latent_pages(shape_.kv_lora, shape_.rope))}
  );
}

// Queries with their roped part, and their position-free part carried into the latent space.
void MlaRunner::make_queries(
    const kernels::Context& context,
    const AttentionStep& step,
    const Arrays& a
) {
  const auto rows = static_cast<std::int64_t>(step.rows.size());
  if (shape_.q_lora > 0) {
    kernels::rms_norm(
        context,
        {.x = a.down,
         .x_stride = shape_.down(),
         .rows = rows,
         .width = shape_.q_lora,
         .weight = a.weights.q_norm.data(),
         .epsilon = shape_.rms_epsilon,
         .y = a.q_low,
         .y_stride = shape_.q_lora}
    );
    kernels::gemm(
        context,
        {.x = a.q_low,
         .x_stride = shape_.q_lora,
         .rows = rows,
         .weight = &a.weights.q_up,
         .y = a.query,
         .y_stride = a.query_stride,
         .round_output = true}
    );
  }
  const std::int64_t head_width = shape_.nope + shape_.rope;
  kernels::apply_rope(
      context,
      {.x = a.query + shape_.nope,
       .row_stride = a.query_stride,
       .head_stride = head_width,
       .rows = rows,
       .heads = shape_.heads,
       .width = shape_.rope,
       .cos_sin = step.cos_sin,
       .pairs = shape_.rope_pairs}
  );
  for (std::int64_t h = 0; h < shape_.heads; ++h) {
    tasks_[static_cast<std::size_t>(h)] = {
        .x = a.query + h * head_width,
        .x_stride = a.query_stride,
        .rows = rows,
        .weight = &a.weights.key_up[static_cast<std::size_t>(h)],
        .y = a.q_latent + h * shape_.kv_lora,
        .y_stride = shape_.heads * shape_.kv_lora,
        .round_output = true,
    };
  }
  kernels::grouped_gemm(context, tasks_);
}

void MlaRunner::attend(const kernels::Context& context, const AttentionStep& step, const Arrays& a)
    const {
  kernels::paged_attention(
      context,
      {.query =
           {{{.x = a.q_latent,
              .row_stride = shape_.heads * shape_.kv_lora,
              .head_stride = shape_.kv_lora,
              .width = shape_.kv_lora},
             {.x = a.query + shape_.nope,
              .row_stride = a.query_stride,
              .head_stride = shape_.nope + shape_.rope,
              .width = shape_.rope}}},
       .rows = step.rows,
       .heads = shape_.heads,
       .scale = shape_.scale,
       .window = step.window,
       .pages = step.cache.with(kernels::latent_pages(shape_.kv_lora, shape_.rope)),
       .out = a.attended,
       .scratch = a.attention_scratch}
  );
}

// What each head attended to, from the latent space to its values.
void MlaRunner::carry_out(
    const kernels::Context& context,
    const AttentionStep& step,
    const Arrays& a
) {
  const auto rows = static_cast<std::int64_t>(step.rows.size());
  const std::int64_t width = shape_.heads * shape_.value;
  for (std::int64_t h = 0; h < shape_.heads; ++h) {
    tasks_[static_cast<std::size_t>(h)] = {
        .x = a.attended + h * shape_.kv_lora,
        .x_stride = shape_.heads * shape_.kv_lora,
        .rows = rows,
        .weight = &a.weights.value_up[static_cast<std::size_t>(h)],
        .y = a.values + h * shape_.value,
        .y_stride = width,
        .round_output = true,
    };
  }
  kernels::grouped_gemm(context, tasks_);
}

}  // namespace pleiad::model
