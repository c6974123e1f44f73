#pragma once

#include <cstdint>

#include "base/result.h"
#include "kernels/cuda/grouped_gemm_types.h"

// What a grouped product on the GPU can do and how it cuts its work: pure functions of sizes, for
// hosts with and without a GPU.
namespace pleiad::kernels::cuda {

// Fails with InvalidInput for sizes that are not positive or out of range, with Unsupported where
// outputs are no multiple of 128 (gated: 256) or inputs none of grouped_step(), naming the
// nearest that are.
Result<void> grouped_supports(const GroupedShape& shape);

// The tile that suits `shape` on so many multiprocessors when its rows are spread over its experts.
[[nodiscard]] GroupedTile grouped_tile(const GroupedShape& shape, std::int32_t multiprocessors);

// Whether a kernel for `tile` exists and may compute `shape`.
[[nodiscard]] bool grouped_tile_fits(const GroupedShape& shape, const GroupedTile& tile);

// Blocks of a launch on `multiprocessors`: no more than there can be tiles, a multiple of the
// cluster.
[[nodiscard]] std::int32_t
grouped_blocks(const GroupedShape& shape, const GroupedTile& tile, std::int32_t multiprocessors);

}  // namespace pleiad::kernels::cuda
