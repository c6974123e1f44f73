#pragma once

#include <cstdint>

#include "kernels/paged_attention.h"

// Which kernel attends for a model, and how rows and pages are cut for it: pure functions of the
// model, never of a step.
namespace pleiad::kernels::cuda {

// The pages of a row fall into stretches of equal length, from the sequence's start on; the row's
// position alone decides how long. A stretch is summed up by itself, page by page; then the sums
// are merged in order. So it shows nowhere how many blocks share the work (DESIGN R2).
struct StretchRule {
  // Pages of the shortest stretches; a power of two, at least 2.
  std::int32_t pages_min = 2;
  // Stretches shorter than so many pages stay few: below it `few_max` of them, from it on
  // `stretches_max`.
  std::int32_t pages_long = 8;
  std::int32_t few_max = 4;
  std::int32_t stretches_max = 32;
};

// Pages of a stretch for a row at `position`, as the exponent of a power of two: blocks ask often,
// and divisions take them long.
constexpr std::int32_t stretch_exponent(const StretchRule& rule, std::int32_t position) {
  const std::int32_t last_page = position / static_cast<std::int32_t>(kPageTokens);
  std::int32_t exponent = 1;
  while (1 << exponent < rule.pages_min) {
    ++exponent;
  }
  while (last_page >> exponent >=
         (1 << exponent < rule.pages_long ? rule.few_max : rule.stretches_max)) {
    ++exponent;
  }
  return exponent;
}

constexpr std::int32_t stretch_pages(const StretchRule& rule, std::int32_t position) {
  return 1 << stretch_exponent(rule, position);
}

// Stretches of a row at `position`.
constexpr std::int32_t stretch_count(const StretchRule& rule, std::int32_t position) {
  const std::int32_t page = position / static_cast<std::int32_t>(kPageTokens);
  return (page >> stretch_exponent(rule, position)) + 1;
}

// What a model's attention looks like.
struct AttentionShape {
  device::DType dtype = device::DType::F32;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 1;
  // Columns of keys and values in a line of the cache.
  HeadColumns keys;
  HeadColumns values;
  std::int64_t line = 0;
  // Widths of the queries' two parts.
  std::int64_t query_first = 0;
  std::int64_t query_second = 0;
  bool windowed = false;
  bool sinks = false;
};

enum class AttentionPath {
  // Any shape and type, on the ordinary cores.
  Generic,
  // BF16 keys and values of 64 or 128 elements, on the tensor cores.
  Grouped,
  // BF16 latents of 512 elements with 64 roped ones behind them, on the tensor cores.
  Latent,
};

struct AttentionPlan {
  AttentionPath path = AttentionPath::Generic;
  StretchRule rule;
  // Parts of the query heads, each of which walks the cache by itself, and the heads of one.
  std::int32_t units = 1;
  std::int32_t unit_heads = 1;
  // Neighbouring tokens whose heads of a unit fill a tile of kTileRows rows.
  std::int32_t tile_tokens = 1;
};

inline constexpr std::int32_t kTileRows = 64;

AttentionPlan attention_plan(const AttentionShape& shape);

}  // namespace pleiad::kernels::cuda
