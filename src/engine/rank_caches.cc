#include "engine/rank_caches.h"

#include <algorithm>

namespace pleiad::engine {
namespace {

std::int64_t heads_of_part(const model::ModelShape& shape, std::int32_t parts) {
  return std::max<std::int64_t>(1, shape.kv_heads / parts);
}

}  // namespace

kv::LineShape lines_of(const model::ModelShape& shape, std::int32_t tensor_parts) {
  kv::LineShape lines{.layers = shape.cache.layers, .dtype = shape.cache.dtype};
  if (shape.kv_heads == 0) {
    lines.heads = 1;
    lines.key_width = shape.cache.width;
    return lines;
  }
  lines.heads = shape.kv_heads;
  lines.key_width = shape.cache.width / (2 * heads_of_part(shape, tensor_parts));
  lines.value_width = lines.key_width;
  return lines;
}

kv::PartCache part_cache_of(
    const model::ModelShape& shape,
    const model::TensorPlace& place,
    kv::PagedCache& cache
) {
  kv::HeadRange heads{0, 1};
  if (shape.kv_heads > 0) {
    // As the model cuts them; more parts than heads repeat some.
    heads = {shape.kv_heads * place.part / place.parts, heads_of_part(shape, place.parts)};
  }
  return {
      .plan = {.shape = lines_of(shape, place.parts), .heads = heads, .pages = cache.pages()},
      .base = cache.layer(0)};
}

}  // namespace pleiad::engine
