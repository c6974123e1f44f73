#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/context.h"

namespace pleiad::kernels::detail {

// Elements that one index of a loop over rows should at least handle: about ten microseconds of
// work, so that handing it to another thread pays.
inline constexpr std::int64_t kElementsPerShare = 16'384;

// body(row) for each row, a block of rows per index of the pool; short loops stay on the caller.
// `row_elements`: elements of a row, weighted by how dear they are.
template <typename Body>
void for_rows(
    const Context& context,
    std::int64_t rows,
    std::int64_t row_elements,
    const Body& body
) {
  const std::int64_t block =
      std::max<std::int64_t>(1, kElementsPerShare / std::max<std::int64_t>(1, row_elements));
  const std::int64_t blocks = (rows + block - 1) / block;
  context.pool->parallel_for(static_cast<std::size_t>(blocks), [&](std::size_t index) {
    const std::int64_t begin = static_cast<std::int64_t>(index) * block;
    for (std::int64_t row = begin; row < std::min(begin + block, rows); ++row) {
      body(row);
    }
  });
}

}  // namespace pleiad::kernels::detail
