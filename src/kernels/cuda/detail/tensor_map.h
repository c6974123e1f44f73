#pragma once

#include <cstdint>

#include <cuda.h>

namespace pleiad::kernels::cuda::hopper {

// Rows of a dense matrix in device memory, as the copy engine shall cut them.
struct TensorBoxes {
  const void* data = nullptr;  // 16-byte aligned
  CUtensorMapDataType type = CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  std::int64_t columns = 0;
  std::int64_t rows = 0;
  std::int64_t row_bytes = 0;  // from row to row, a multiple of 16
  std::int32_t box_columns = 0;
  std::int32_t box_rows = 0;
};

// The copy engine's description of `boxes`, which are 128 bytes wide and land with their 16-byte
// chunks permuted as the tensor cores read them; parts of boxes beyond the matrix land as zeros.
// Asks the driver for its encoder, so it links against no driver library. REQUIRES: sizes the
// engine takes.
CUtensorMap tensor_map(const TensorBoxes& boxes);

// Pages of BF16 lines in device memory, cut into boxes of 64 columns by a page's lines.
struct PageBoxes {
  const void* data = nullptr;   // 16-byte aligned
  std::int64_t columns = 0;     // of a line; a multiple of 8
  std::int64_t lines = 0;       // of a page
  std::int64_t page_bytes = 0;  // from page to page, a multiple of 16
};

// As tensor_map, of three dimensions: column, line, page. It knows no end of the pages.
CUtensorMap page_map(const PageBoxes& boxes);

}  // namespace pleiad::kernels::cuda::hopper
