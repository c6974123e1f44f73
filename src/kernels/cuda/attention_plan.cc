#include "kernels/cuda/attention_plan.h"

#include <algorithm>

#include "kernels/cuda/attention_work.h"

namespace pleiad::kernels::cuda {
namespace {

constexpr std::int64_t kLatent = 512;
constexpr std::int64_t kRoped = 64;
// Columns that begin at a multiple of so many elements can be cut by the copy engine.
constexpr std::int64_t kColumnStep = 64;

bool takes_grouped(const AttentionShape& shape) {
  const std::int64_t width = shape.keys.width;
  return (width == 64 || width == 128) && shape.values.width == width &&
         shape.query_first == width && shape.query_second == 0 &&
         shape.heads / shape.kv_heads <= kTileRows;
}

bool takes_latent(const AttentionShape& shape) {
  const bool fills_tiles = shape.heads <= kTileRows || shape.heads % kTileRows == 0;
  return shape.kv_heads == 1 && shape.keys.width == kLatent + kRoped && shape.keys.offset == 0 &&
         shape.values.width == kLatent && shape.values.offset == 0 &&
         shape.query_first == kLatent && shape.query_second == kRoped && fills_tiles &&
         !shape.windowed && !shape.sinks;
}

}  // namespace

AttentionPlan attention_plan(const AttentionShape& shape) {
  AttentionPlan plan;
  const bool aligned = shape.keys.offset % kColumnStep == 0 &&
                       shape.values.offset % kColumnStep == 0 && shape.line % kColumnStep == 0;
  if (shape.dtype != device::DType::BF16 || !aligned) return plan;
  if (takes_grouped(shape)) {
    plan.path = AttentionPath::Grouped;
    plan.units = static_cast<std::int32_t>(shape.kv_heads);
    plan.unit_heads = static_cast<std::int32_t>(shape.heads / shape.kv_heads);
  } else if (takes_latent(shape)) {
    plan.path = AttentionPath::Latent;
    const auto heads = static_cast<std::int32_t>(shape.heads);
    plan.units = heads <= kTileRows ? 1 : heads / kTileRows;
    plan.unit_heads = heads / plan.units;
    // A total beside the sums of a stretch has no room in registers, so that merging costs traffic:
    // long stretches where prompts spend their time.
    plan.rule = {.pages_min = 2, .pages_long = 32, .few_max = 4, .stretches_max = 32};
  }
  plan.tile_tokens = kTileRows / plan.unit_heads;
  return plan;
}

AttentionTeams
attention_teams(const AttentionPlan& plan, std::int64_t rows, std::int32_t multiprocessors) {
  const std::int64_t teams = rows * plan.units;
  const std::int64_t blocks = (plan.path == AttentionPath::Grouped ? 2 : 1) * multiprocessors;
  // A team needs neighbouring multiprocessors, so that not every block finds a place.
  const auto fits = [&](std::int32_t size) { return 4 * size * teams <= 3 * blocks; };
  constexpr std::int32_t kLarge = 16;
  constexpr std::int32_t kSmall = 8;
  if (fits(2 * kLarge)) return {.size = kLarge, .teams = static_cast<std::int32_t>(teams)};
  if (fits(kSmall)) return {.size = kSmall, .teams = static_cast<std::int32_t>(teams)};
  return {};
}

AttentionCrew
attention_crew(const AttentionPlan& plan, std::int64_t rows, std::int32_t multiprocessors) {
  constexpr std::int64_t kFewRows = 128;
  if (plan.path == AttentionPath::Latent) return {.workers = multiprocessors, .groups = 1};
  if (rows <= kFewRows) return {.workers = 2 * multiprocessors, .groups = 1};
  return {.workers = multiprocessors, .groups = 2};
}

std::int64_t partial_slots(const AttentionPlan& plan, std::int64_t rows) {
  // Sums of many heads are large, and such rows are work enough for a GPU by themselves.
  constexpr std::int64_t kManyHeads = 32;
  constexpr std::int64_t kFewSlots = 8;
  const std::int64_t most = plan.rule.stretches_max;
  const std::int64_t each = plan.units * plan.unit_heads > kManyHeads ? kFewSlots : most;
  return std::max(rows * each, most);
}

}  // namespace pleiad::kernels::cuda
