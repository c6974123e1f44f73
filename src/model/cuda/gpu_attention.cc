#include "model/cuda/gpu_attention.h"

#include "kernels/cuda/cache_rows.h"

namespace pleiad::model::cuda {
namespace {

using kernels::cuda::AttentionPath;
using kernels::cuda::kSplitsMax;

kernels::cuda::AttentionShape shape_of(const MlaShape& shape, device::DType activation) {
  const kernels::AttentionPages pages = kernels::latent_pages(shape.kv_lora, shape.rope);
  return {
      .dtype = activation,
      .heads = shape.heads,
      .kv_heads = pages.kv_heads,
      .keys = pages.keys,
      .values = pages.values,
      .line = pages.line,
      .query_first = shape.kv_lora,
      .query_second = shape.rope};
}

kernels::cuda::AttentionShape shape_of(const GqaShape& shape, device::DType activation) {
  const kernels::AttentionPages pages =
      kernels::grouped_pages(shape.kv_heads, shape.head, shape.head);
  return {
      .dtype = activation,
      .heads = shape.heads,
      .kv_heads = pages.kv_heads,
      .keys = pages.keys,
      .values = pages.values,
      .line = pages.line,
      .query_first = shape.head};
}

// Stretches of the generic kernel that a row's pages fall into at most: few where each takes much
// memory.
std::int64_t splits_max(const MlaShape& shape) {
  return shape.heads <= 16 ? kSplitsMax : kSplitsMax / 4;
}

}  // namespace

AttentionRoom::AttentionRoom(
    const kernels::cuda::AttentionShape& shape,
    std::int64_t splits_max,
    const GpuLimits& limits,
    device::ArenaPlan& plan
)
    : plan_(kernels::cuda::attention_plan(shape)), splits_max_(splits_max), limits_(limits) {
  const bool is_generic = plan_.path == AttentionPath::Generic;
  const std::int64_t rows = limits.split_rows_max;
  const std::size_t floats =
      is_generic
          ? kernels::cuda::attention_scratch_floats(
                rows, shape.heads, shape.values.width, splits_max
            )
          : kernels::cuda::attention_scratch_floats(plan_, rows, shape.heads, shape.values.width);
  stretches_ = plan.reserve("attention stretches", floats * sizeof(float), 0, 0);
  const std::size_t list =
      is_generic ? 0 : kernels::cuda::attention_work_bytes(plan_, limits.rows_max);
  list_ = plan.reserve("attention work", list, 0, 0);
}

kernels::cuda::AttentionWork AttentionRoom::work(const device::cuda::DeviceScratch& memory) const {
  return kernels::cuda::attention_work_at(memory.get<std::byte>(list_), plan_, limits_.rows_max);
}

void AttentionRoom::begin(
    const GpuContext& context,
    const device::cuda::DeviceScratch& memory,
    std::int64_t rows,
    const kernels::cuda::RowPlaces& places
) const {
  if (plan_.path == AttentionPath::Generic) return;
  kernels::cuda::list_attention_work(
      *context.stream,
      {.rows = rows,
       .places = places,
       .plan = plan_,
       .scratch_rows = limits_.split_rows_max,
       .work = work(memory)}
  );
}

void AttentionRoom::furnish(
    const device::cuda::DeviceScratch& memory,
    kernels::cuda::PagedAttentionTask& task
) const {
  task.splits_max = splits_max_;
  task.scratch = memory.get<float>(stretches_);
  task.scratch_rows = limits_.split_rows_max;
  task.plan = plan_;
  if (plan_.path != AttentionPath::Generic) task.work = work(memory);
}

struct GpuMlaRunner::Arrays {
  DeviceRows down;
  DeviceRows q_low;
  DeviceRows query;  // [rows, heads, nope + rope]
  DeviceRows q_latent;
  DeviceRows attended;
  DeviceRows values;
};

GpuMlaRunner::GpuMlaRunner(
    const MlaShape& shape,
    const GpuLimits& limits,
    device::DType activation,
    device::ArenaPlan& plan
)
    : shape_(shape),
      limits_(limits),
      activation_(activation),
      room_(shape_of(shape, activation), splits_max(shape), limits, plan) {
  const auto reserve = [&](const char* name, std::int64_t elements) {
    return reserve_rows(plan, name, limits, elements, activation);
  };
  down_ = reserve("attention down", shape.down());
  q_low_ = reserve("low-rank query", shape.q_lora);
  query_ = reserve("query", shape.q_lora > 0 ? shape.query() : 0);
  q_latent_ = reserve("latent query", shape.heads * shape.kv_lora);
  attended_ = reserve("attended latent", shape.heads * shape.kv_lora);
  values_ = reserve("attended values", shape.heads * shape.value);
}

void GpuMlaRunner::begin(
    const GpuContext& context,
    const device::cuda::DeviceScratch& memory,
    std::int64_t rows,
    const kernels::cuda::RowPlaces& places
) const {
  room_.begin(context, memory, rows, places);
}

GpuMlaRunner::Arrays GpuMlaRunner::arrays(const device::cuda::DeviceScratch& memory) const {
  const auto rows = [&](device::RegionId region, std::int64_t width) {
    return rows_at(memory, region, width, activation_);
  };
  const DeviceRows down = rows(down_, shape_.down());
  return {
      .down = down,
      .q_low = rows(q_low_, shape_.q_lora),
      // Without a low-rank step the first product already gives the queries.
      .query = shape_.q_lora > 0 ? rows(query_, shape_.query()) : down,
      .q_latent = rows(q_latent_, shape_.heads * shape_.kv_lora),
      .attended = rows(attended_, shape_.heads * shape_.kv_lora),
      .values = rows(values_, shape_.heads * shape_.value),
  };
}

kernels::AttentionPages GpuMlaRunner::pages(const GpuAttentionStep& step) const {
  kernels::AttentionPages pages = kernels::latent_pages(shape_.kv_lora, shape_.rope);
  pages.base = step.cache;
  pages.page_stride = step.page_stride;
  pages.dtype = activation_;
  return pages;
}

Result<void> GpuMlaRunner::prepare(Products& products, const GpuMla& weights) const {
  const auto rows = [&](std::int64_t x_stride, std::int64_t y_stride) {
    return ProductRows{.x_stride = x_stride, .y_stride = y_stride, .y_dtype = activation_};
  };
  const std::int64_t latents = shape_.heads * shape_.kv_lora;
  const std::int64_t values = shape_.heads * shape_.value;
  const std::int64_t query = shape_.q_lora > 0 ? shape_.query() : shape_.down();
  PLEIAD_TRY(products.prepare(weights.down, nullptr, rows(shape_.hidden, shape_.down())));
  PLEIAD_TRY(products.prepare(weights.q_up, nullptr, rows(shape_.q_lora, shape_.query())));
  PLEIAD_TRY(products.prepare(weights.out, nullptr, rows(values, shape_.hidden)));
  PLEIAD_TRY(products.prepare_batch(
      weights.key_up, {.x = shape_.nope + shape_.rope, .y = shape_.kv_lora}, rows(query, latents)
  ));
  return products.prepare_batch(
      weights.value_up, {.x = shape_.kv_lora, .y = shape_.value}, rows(latents, values)
  );
}

void GpuMlaRunner::run(
    const GpuContext& context,
    const device::cuda::DeviceScratch& memory,
    const GpuMla& weights,
    const GpuAttentionStep& step
) const {
  const Arrays a = arrays(memory);
  project(context, weights, step, a);
  attend(context, memory, step, a);
  context.products->run_batch(
      *context.stream,
      step.rows,
      weights.value_up,
      {.x = shape_.kv_lora, .y = shape_.value},
      a.attended,
      a.values
  );
  context.products->run(*context.stream, step.rows, weights.out, nullptr, a.values, step.delta);
}

// Latents and roped keys of the rows, into the cache; queries with their roped part, and their
// position-free part carried into the latent space.
void GpuMlaRunner::project(
    const GpuContext& context,
    const GpuMla& weights,
    const GpuAttentionStep& step,
    const Arrays& a
) const {
  context.products->run(*context.stream, step.rows, weights.down, nullptr, step.x, a.down);
  if (shape_.q_lora > 0) {
    kernels::cuda::rms_norm(
        *context.stream,
        {.x = a.down,
         .rows = step.rows,
         .width = shape_.q_lora,
         .weight = weights.q_norm,
         .epsilon = shape_.rms_epsilon,
         .y = a.q_low}
    );
    context.products->run(*context.stream, step.rows, weights.q_up, nullptr, a.q_low, a.query);
  }
  kernels::cuda::cache_latent_rows(
      *context.stream,
      {.latent = a.down.from(shape_.first_query()),
       .queries = a.query.from(shape_.nope),
       .heads = shape_.heads,
       .head_stride = shape_.nope + shape_.rope,
       .rows = step.rows,
       .width = shape_.kv_lora,
       .norm = weights.kv_norm,
       .epsilon = shape_.rms_epsilon,
       .rotation = {.cos_sin = step.cos_sin, .width = shape_.rope, .pairs = shape_.rope_pairs},
       .places = step.places,
       .pages = pages(step)}
  );
  context.products->run_batch(
      *context.stream,
      step.rows,
      weights.key_up,
      {.x = shape_.nope + shape_.rope, .y = shape_.kv_lora},
      a.query,
      a.q_latent
  );
}

void GpuMlaRunner::attend(
    const GpuContext& context,
    const device::cuda::DeviceScratch& memory,
    const GpuAttentionStep& step,
    const Arrays& a
) const {
  kernels::cuda::PagedAttentionTask task{
      .query =
          {{{.rows = a.q_latent, .head_stride = shape_.kv_lora, .width = shape_.kv_lora},
            {.rows = a.query.from(shape_.nope),
             .head_stride = shape_.nope + shape_.rope,
             .width = shape_.rope}}},
      .rows = step.rows,
      .heads = shape_.heads,
      .scale = shape_.scale,
      .window = step.window,
      .places = step.places,
      .pages = pages(step),
      .out = a.attended};
  room_.furnish(memory, task);
  kernels::cuda::paged_attention(*context.stream, task);
}

GpuGqaRunner::GpuGqaRunner(
    const GqaShape& shape,
    const GpuLimits& limits,
    device::DType activation,
    device::ArenaPlan& plan
)
    : shape_(shape),
      limits_(limits),
      activation_(activation),
      room_(shape_of(shape, activation), kSplitsMax, limits, plan) {
  qkv_ = reserve_rows(plan, "queries, keys, values", limits, shape.qkv(), activation);
  attended_ = reserve_rows(plan, "attended values", limits, shape.query(), activation);
}

void GpuGqaRunner::begin(
    const GpuContext& context,
    const device::cuda::DeviceScratch& memory,
    std::int64_t rows,
    const kernels::cuda::RowPlaces& places
) const {
  room_.begin(context, memory, rows, places);
}

kernels::AttentionPages GpuGqaRunner::pages(const GpuAttentionStep& step) const {
  kernels::AttentionPages pages = kernels::grouped_pages(shape_.kv_heads, shape_.head, shape_.head);
  pages.base = step.cache;
  pages.page_stride = step.page_stride;
  pages.dtype = activation_;
  return pages;
}

Result<void> GpuGqaRunner::prepare(Products& products, const GpuGqa& weights) const {
  const auto rows = [&](std::int64_t x_stride, std::int64_t y_stride) {
    return ProductRows{.x_stride = x_stride, .y_stride = y_stride, .y_dtype = activation_};
  };
  PLEIAD_TRY(products.prepare(weights.qkv, weights.qkv_bias, rows(shape_.hidden, shape_.qkv())));
  return products.prepare(weights.out, weights.out_bias, rows(shape_.query(), shape_.hidden));
}

void GpuGqaRunner::run(
    const GpuContext& context,
    const device::cuda::DeviceScratch& memory,
    const GpuGqa& weights,
    const GpuAttentionStep& step
) const {
  const DeviceRows qkv = rows_at(memory, qkv_, shape_.qkv(), activation_);
  const DeviceRows attended = rows_at(memory, attended_, shape_.query(), activation_);
  project(context, weights, step, qkv);
  kernels::cuda::PagedAttentionTask task{
      .query = {{{.rows = qkv, .head_stride = shape_.head, .width = shape_.head}, {}}},
      .rows = step.rows,
      .heads = shape_.heads,
      .scale = shape_.scale,
      .window = step.window,
      .sinks = weights.sinks,
      .places = step.places,
      .pages = pages(step),
      .out = attended};
  room_.furnish(memory, task);
  kernels::cuda::paged_attention(*context.stream, task);
  context.products->run(
      *context.stream, step.rows, weights.out, weights.out_bias, attended, step.delta
  );
}

// Queries, and keys and values into the cache.
void GpuGqaRunner::project(
    const GpuContext& context,
    const GpuGqa& weights,
    const GpuAttentionStep& step,
    const DeviceRows& qkv
) const {
  context.products->run(*context.stream, step.rows, weights.qkv, weights.qkv_bias, step.x, qkv);
  kernels::cuda::cache_grouped_rows(
      *context.stream,
      {.qkv = qkv,
       .rows = step.rows,
       .heads = shape_.heads,
       .kv_heads = shape_.kv_heads,
       .width = shape_.head,
       .q_norm = shape_.qk_norm ? weights.q_norm : nullptr,
       .k_norm = shape_.qk_norm ? weights.k_norm : nullptr,
       .epsilon = shape_.rms_epsilon,
       .rotation = {.cos_sin = step.cos_sin, .width = shape_.rope, .pairs = shape_.rope_pairs},
       .places = step.places,
       .pages = pages(step)}
  );
}

}  // namespace pleiad::model::cuda
