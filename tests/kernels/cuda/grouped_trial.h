#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "device/cuda/device_buffer.h"
#include "device/cuda/stream.h"
#include "kernels/cuda/grouped_gemm.h"
#include "kernels/cuda/grouped_gemm_plan.h"

// What the tests of grouped products share: weights on the GPU, and one product with everything it
// needs.
namespace pleiad::kernels::cuda {

// A copy of `values` in GPU memory.
template <typename T>
device::cuda::DeviceBuffer on_gpu(device::cuda::Stream& stream, const std::vector<T>& values) {
  auto buffer =
      device::cuda::DeviceBuffer::allocate(values.size() * sizeof(T) + 16, "a test").value();
  stream.copy_to_device(buffer.data(), values.data(), values.size() * sizeof(T));
  stream.wait("a test's copy").value();
  return buffer;
}

// `count` values from GPU memory.
template <typename T>
std::vector<T> from_gpu(device::cuda::Stream& stream, const void* from, std::size_t count) {
  std::vector<T> values(count);
  stream.copy_to_host(values.data(), from, count * sizeof(T));
  stream.wait("a test's kernels").value();
  return values;
}

device::cuda::DeviceBuffer gpu_bytes(std::int64_t bytes);

// 0, c0, c0 + c1, ...
std::vector<std::int32_t> starts_of(const std::vector<std::int32_t>& counts);

// Random weights, as stored and packed, and a pool of random rows.
struct GroupedWorld {
  GroupedWorld(
      device::cuda::Stream& gpu_stream,
      const GroupedShape& wanted,
      std::int64_t rows,
      std::uint32_t seed
  );

  device::cuda::Stream& stream;
  GroupedShape shape;
  std::int64_t pool_rows;
  bool early = false;  // whether products overlap what makes their rows
  device::cuda::DeviceBuffer stored;
  device::cuda::DeviceBuffer packed;
  device::cuda::DeviceBuffer weight_scales;  // FP8, else empty
  device::cuda::DeviceBuffer pool;           // [pool_rows, inputs]
  device::cuda::DeviceBuffer pool_scales;    // FP8: [inputs / 128, pool_rows]
};

// Rows of the pool for each expert, in the grouped order.
struct GroupedRows {
  std::vector<std::int32_t> counts;  // [experts]
  std::vector<std::int32_t> index;   // [rows] into the pool
  std::vector<float> weights;        // [rows], or empty: none
};

// The product of `rows` with the world's weights by `tile`, rows gathered by the kernel itself if
// the world's shape says so, else before it. The output as it lies in memory, with `guard` rows
// behind it that must stay poisoned; a poisoned 16-bit word is 0xFFFF.
struct GroupedResult {
  std::vector<std::uint16_t> words;
  std::int64_t row_words = 0;
};
GroupedResult run_grouped(
    const GroupedWorld& world,
    const GroupedRows& rows,
    const GroupedTile& tile,
    std::int64_t guard = 4
);

// The same in double, [rows, outputs], before any activation.
std::vector<double> reference_of(const GroupedWorld& world, const GroupedRows& rows);

std::string text_of(const GroupedShape& shape, const GroupedTile& tile);

}  // namespace pleiad::kernels::cuda
