#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "device/dtype.h"
#include "kernels/paged_attention.h"

namespace pleiad::model {

// One layer's part of the cache: pages of lines, [pages, kPageTokens, line].
struct LayerCache {
  std::byte* base = nullptr;
  std::size_t page_stride = 0;  // bytes
  device::DType dtype = device::DType::F32;

  // `lines` with this memory.
  [[nodiscard]] kernels::AttentionPages with(kernels::AttentionPages lines) const {
    lines.base = base;
    lines.page_stride = page_stride;
    lines.dtype = dtype;
    return lines;
  }
};

// What one attention layer reads and writes, whatever its kind.
struct AttentionStep {
  const float* x = nullptr;  // [rows, hidden], rounded activations
  std::span<const kernels::AttentionRow> rows;
  const float* cos_sin = nullptr;  // [rows, 2, rope / 2]
  LayerCache cache;
  std::int64_t window = 0;    // tokens a row sees, itself included; 0: all
  float* residual = nullptr;  // [rows, hidden]: the layer's output is added here
};

// What a runner of attention layers makes room for.
struct AttentionLimits {
  std::int64_t rows_max = 0;
  std::int64_t context_max = 0;
  int workers = 1;
};

}  // namespace pleiad::model
