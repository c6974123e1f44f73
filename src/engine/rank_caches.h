#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "kv/lines.h"
#include "kv/paged_cache.h"
#include "kv/shared_memory.h"
#include "model/model.h"
#include "model/tensor_parts.h"

namespace pleiad::engine {

// The caches of one dp rank: one of every tensor part, with the same page numbers.
struct RankCaches {
  kv::LineShape shape;  // of all parts together
  std::vector<kv::PartCache> parts;
  std::int32_t first_rank = 0;  // whose cache parts[0] is
};

// Lines of a model whose tensor parts are like `shape` says.
kv::LineShape lines_of(const model::ModelShape& shape, std::int32_t tensor_parts);
// The cache of one of them. `cache` keeps its memory for as long as the result is used.
kv::PartCache part_cache_of(
    const model::ModelShape& shape,
    const model::TensorPlace& place,
    kv::PagedCache& cache
);

}  // namespace pleiad::engine
