#pragma once

#include <array>
#include <cstdint>

#include "kernels/cuda/attention_work.h"
#include "kernels/cuda/row_places.h"

namespace pleiad::kernels::cuda::hopper {

// Queries in BF16: head h of row r begins at data + r * row_stride + h * head_stride elements.
struct QueryPart16 {
  const std::uint16_t* data = nullptr;
  std::int64_t row_stride = 0;
  std::int64_t head_stride = 0;
};

// What a block of the attention kernels works with; all memory is the GPU's.
struct AttentionArguments {
  AttentionWork work;
  AttentionPlan plan;
  std::int32_t team = 0;  // blocks of a row and unit; 0: blocks take turns at the list
  RowPlaces places;
  std::array<QueryPart16, 2> query;
  std::uint16_t* out = nullptr;  // [rows, heads * value width]
  std::int64_t out_stride = 0;
  const float* sinks = nullptr;  // [heads] or null
  float* partials = nullptr;     // [slots, heads, value width]
  float* stats = nullptr;        // [slots, heads, 2]: maxima and masses of the partials
  float* totals = nullptr;       // a block's merged stretches where registers do not hold them
  float scale = 1.0F;            // of scores, times log2(e)
  std::int32_t window = 0;       // 0: all
  std::int32_t heads = 0;
  std::int32_t key_column = 0;  // of the first head's keys and values in a line
  std::int32_t value_column = 0;
};

}  // namespace pleiad::kernels::cuda::hopper
