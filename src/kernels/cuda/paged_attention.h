#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "device/cuda/stream.h"
#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/attention_work.h"
#include "kernels/cuda/row_ops.h"
#include "kernels/cuda/row_places.h"
#include "kernels/paged_attention.h"

// Attention over a paged cache in GPU memory; kernels/paged_attention.h says what is computed.
namespace pleiad::kernels::cuda {

// A part of every query: head h at h * head_stride.
struct QueryHeads {
  DeviceRows rows;
  std::int64_t head_stride = 0;
  std::int64_t width = 0;
};

// Stretches of the generic path, as attention_plan.h's rule has them for the others: at most so
// many, of equal length.
inline constexpr std::int64_t kSplitsMax = 32;

// Pages of a stretch for a row at `position`: a power of two, at least 2.
constexpr std::int64_t pages_per_split(std::int64_t position, std::int64_t splits_max) {
  const std::int64_t pages = position / kPageTokens + 1;
  std::int64_t length = 2;
  while ((pages + length - 1) / length > splits_max) {
    length *= 2;
  }
  return length;
}

struct PagedAttentionTask {
  std::array<QueryHeads, 2> query;  // one after the other; widths that add up to a key's
  std::int64_t rows = 0;
  std::int64_t heads = 0;  // of queries, a multiple of pages.kv_heads
  float scale = 1.0F;
  std::int64_t window = 0;       // a row sees its last `window` tokens, itself included; 0: all
  const float* sinks = nullptr;  // [heads]: one more logit per head, without a value; or null
  RowPlaces places;
  AttentionPages pages;                  // base in GPU memory; of the queries' dtype
  DeviceRows out;                        // [rows, heads * value width]; zeros in rows left out
  std::int64_t splits_max = kSplitsMax;  // of a model: changing it changes bits
  // Room for the stretches' sums, attention_scratch_floats(); a step of more rows walks each row's
  // stretches in one block and needs none, on the generic path.
  float* scratch = nullptr;
  std::int64_t scratch_rows = 0;
  AttentionPlan plan;  // attention_plan() of the model
  AttentionWork work;  // with a plan that is not generic: list_attention_work() of the same rows
};

// What `task` asks of attention_plan().
AttentionShape attention_shape(const PagedAttentionTask& task);

// Floats of scratch for steps of up to `rows` rows whose stretches are spread over the GPU.
std::size_t attention_scratch_floats(
    std::int64_t rows,
    std::int64_t heads,
    std::int64_t value_width,
    std::int64_t splits_max
);
// The same for a plan that is not generic.
std::size_t attention_scratch_floats(
    const AttentionPlan& plan,
    std::int64_t rows,
    std::int64_t heads,
    std::int64_t value_width
);

// REQUIRES: values of at most 1024 elements; the plan of these very shapes, or a generic one. Sums
// of a page run over tokens in order on the generic path and as the tensor cores add them on the
// others; softmax in float with a running maximum per stretch.
void paged_attention(device::cuda::Stream& stream, const PagedAttentionTask& task);

}  // namespace pleiad::kernels::cuda
