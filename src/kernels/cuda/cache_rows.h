#pragma once

#include <cstdint>

#include "device/cuda/stream.h"
#include "kernels/cuda/paged_attention.h"
#include "kernels/cuda/row_ops.h"
#include "kernels/rope.h"

// What stands between an attention's projections and its products, in one pass over the rows: norms
// of heads, rotary positions, lines of the cache. Rounds where the ops it stands for round
// (rms_norm, apply_rope); sums of norms have an order that the width alone decides.
namespace pleiad::kernels::cuda {

// The rotation of a head's elements; kernels/rope.h says what it computes.
struct Rotation {
  const float* cos_sin = nullptr;  // [positions, 2, width / 2] of rope_angles
  std::int64_t width = 0;          // of a head, from its first element on, what turns; even
  RopePairs pairs = RopePairs::Interleaved;
};

// Grouped-query attention: rows of [heads of queries | of keys | of values], each `width` wide.
struct GroupedRowsTask {
  DeviceRows qkv;  // queries are normalised and turned in place; keys and values stay as they are
  std::int64_t rows = 0;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t width = 0;         // even, at most kHeadWidthMax
  const float* q_norm = nullptr;  // [width], or null: no norms
  const float* k_norm = nullptr;
  float epsilon = 1e-6F;
  Rotation rotation;
  RowPlaces places;      // a row with a negative position is left as it is
  AttentionPages pages;  // base in GPU memory: normalised, turned keys and the values go there
};
inline constexpr std::int64_t kHeadWidthMax = 1024;
void cache_grouped_rows(device::cuda::Stream& stream, const GroupedRowsTask& task);

// Latent attention: rows of [latent | key's rotary part], and queries.
struct LatentRowsTask {
  DeviceRows latent;       // stays as it is
  DeviceRows queries;      // from the first head's rotary part on, which is turned in place
  std::int64_t heads = 0;  // of queries, head_stride apart
  std::int64_t head_stride = 0;
  std::int64_t rows = 0;
  std::int64_t width = 0;  // of the latent, at most kLatentWidthMax
  const float* norm = nullptr;
  float epsilon = 1e-6F;
  Rotation rotation;  // of rotary parts, which are as wide
  RowPlaces places;
  AttentionPages pages;  // of [latent | roped key]
};
inline constexpr std::int64_t kLatentWidthMax = 2048;
void cache_latent_rows(device::cuda::Stream& stream, const LatentRowsTask& task);

}  // namespace pleiad::kernels::cuda
