#pragma once

#include <cstdint>

#include "device/cuda/stream.h"
#include "kernels/cuda/device_matrix.h"
#include "kernels/cuda/row_ops.h"

// Products of BF16 matrices with few rows, where the time is that of reading the matrix once.
namespace pleiad::kernels::cuda {

inline constexpr std::int64_t kFewRowsMax = 64;

struct FewRowsTask {
  DeviceRows x;  // [rows, inputs] of BF16, 16-byte aligned, a stride of whole 16 bytes
  std::int64_t rows = 0;
  DeviceMatrix weight;  // Plain, BFloat16, dense; the first one of a batch
  DeviceRows y;         // [rows, outputs], BF16 or F32
  // Of a batch of products over the same rows, as BatchedProductTask's.
  std::int64_t count = 1;
  std::int64_t weight_step = 0;  // elements between matrices: whole rows
  std::int64_t x_step = 0;
  std::int64_t y_step = 0;
};

// Whether the kernel takes the shape. Pure.
bool few_rows_supports(const FewRowsTask& task);

// Outputs of a block: those with which the busiest multiprocessor has the fewest. Pure.
std::int32_t
few_rows_height(std::int64_t outputs, std::int64_t count, std::int32_t multiprocessors);

// y = x W^T. Each sum is one chain over the inputs in ascending order, in steps of 16 products of
// the tensor cores accumulated in float, as grouped_gemm()'s and those of cuBLASLt's kernels
// without split-K (tests hold them to the same bits). REQUIRES: few_rows_supports(), a GPU of
// capability kGroupedCapability.
void few_rows_gemm(device::cuda::Stream& stream, const FewRowsTask& task);

}  // namespace pleiad::kernels::cuda
