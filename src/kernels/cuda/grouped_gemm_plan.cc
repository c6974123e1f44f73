#include "kernels/cuda/grouped_gemm_plan.h"

#include <algorithm>

namespace pleiad::kernels::cuda {
namespace {

constexpr std::int32_t kTileOutputs = 128;
constexpr std::int64_t kRowsMax = std::int64_t{1} << 24;
constexpr std::int32_t kWidthMax = 1 << 20;

std::int64_t divide_up(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

// `value` is a positive multiple of `unit`, or why not.
Result<void> check_multiple(std::string_view name, std::int32_t value, std::int32_t unit) {
  if (value < 1 || value > kWidthMax) {
    return invalid_input("grouped product: {} must be 1..{}, got {}", name, kWidthMax, value);
  }
  if (value % unit != 0) {
    return unsupported(
        "grouped product: {} must be a multiple of {}, got {} (nearest: {})",
        name,
        unit,
        value,
        divide_up(value, unit) * unit
    );
  }
  return {};
}

// Weight rows of a tile such that the busiest multiprocessor has the least of them when every
// expert that can be hit is: one alone cannot draw its share of the memory's speed from the others
// that idle.
std::int32_t best_height(const GroupedShape& shape, std::int32_t multiprocessors) {
  const std::int64_t experts_hit = std::min<std::int64_t>(shape.experts, shape.rows_max);
  const std::int64_t whole_tiles = experts_hit * (shape.outputs / kTileOutputs);
  if (whole_tiles >= 2 * std::int64_t{multiprocessors}) return kTileOutputs;
  std::int64_t best = kTileOutputs;
  std::int64_t best_rows = INT64_MAX;
  for (std::int64_t height = kTileOutputs; height >= kTileOutputs / 2; height -= 16) {
    const std::int64_t tiles = experts_hit * divide_up(shape.outputs, height);
    const std::int64_t rows = divide_up(tiles, multiprocessors) * height;
    if (rows >= best_rows) continue;
    best = height;
    best_rows = rows;
  }
  return static_cast<std::int32_t>(best);
}

}  // namespace

Result<void> grouped_supports(const GroupedShape& shape) {
  if (shape.experts < 1 || shape.experts > kGroupedExpertsMax) {
    return invalid_input(
        "grouped product: experts must be 1..{}, got {}", kGroupedExpertsMax, shape.experts
    );
  }
  if (shape.rows_max < 1 || shape.rows_max > kRowsMax) {
    return invalid_input("grouped product: rows must be 1..{}, got {}", kRowsMax, shape.rows_max);
  }
  const bool halves = shape.output == GroupedOutput::SwiGlu;
  PLEIAD_TRY(check_multiple("outputs", shape.outputs, halves ? 2 * kTileOutputs : kTileOutputs));
  return check_multiple("inputs", shape.inputs, grouped_step(shape.format));
}

GroupedTile grouped_tile(const GroupedShape& shape, std::int32_t multiprocessors) {
  // Up to here memory is the limit; a tile of few rows leaves room for more weights under way.
  constexpr std::int64_t kFewRows = 64;
  // From here on sharing rows is worth the waiting for each other.
  constexpr std::int64_t kManyRows = 96;
  const std::int64_t rows = divide_up(shape.rows_max, shape.experts);
  GroupedTile tile;
  if (rows <= kFewRows) {
    tile.outputs = best_height(shape, multiprocessors);
    return tile;
  }
  if (shape.format == GroupedFormat::Fp8Blocks && !shape.gathered) {
    return {.rows = 128, .cluster = 1, .outputs = 2 * kTileOutputs};
  }
  tile.rows = 256;
  if (rows >= kManyRows) tile.cluster = 2;
  if (!grouped_tile_fits(shape, tile)) tile.cluster = 1;
  return tile;
}

bool grouped_tile_fits(const GroupedShape& shape, const GroupedTile& tile) {
  const bool is_bf16 = shape.format == GroupedFormat::BFloat16;
  const bool outputs_fit =
      tile.outputs > 0 && tile.outputs <= kTileOutputs && tile.outputs % 16 == 0;
  switch (tile.rows) {
    case 64:
      return tile.cluster == 1 && outputs_fit;
    case 128:
      return tile.cluster == 1 && !is_bf16 && !shape.gathered && tile.outputs == 2 * kTileOutputs;
    case 256:
      if (tile.cluster == 1) return outputs_fit && (is_bf16 || shape.gathered);
      return tile.cluster == 2 && is_bf16 && !shape.gathered && tile.outputs == kTileOutputs &&
             shape.outputs % (2 * kTileOutputs) == 0;
    default:
      return false;
  }
}

std::int32_t
grouped_blocks(const GroupedShape& shape, const GroupedTile& tile, std::int32_t multiprocessors) {
  const std::int64_t experts_hit = std::min<std::int64_t>(shape.experts, shape.rows_max);
  // Each expert hit has a last, partial tile of rows, beside the full ones of all.
  const std::int64_t row_tiles = experts_hit + (shape.rows_max - experts_hit) / tile.rows;
  const std::int64_t tiles = row_tiles * divide_up(shape.outputs, tile.outputs);
  const std::int64_t whole = multiprocessors / tile.cluster * tile.cluster;
  return static_cast<std::int32_t>(std::min(tiles, whole));
}

}  // namespace pleiad::kernels::cuda
