#pragma once

#include <cstdint>

namespace pleiad::kernels::cuda::hopper {

// What a grouped product's kernel reads and writes, all in device memory.
struct GroupedArguments {
  const unsigned char* weights = nullptr;  // packed
  const float* weight_scales = nullptr;    // FP8: [experts, outputs / 128, steps]
  const unsigned char* x = nullptr;        // gathered rows: activations, read through x_index
  const std::int32_t* x_index = nullptr;   // [rows]
  const float* x_scales = nullptr;         // FP8: [steps, x_scale_stride]
  std::int64_t x_scale_stride = 0;
  const std::int32_t* starts = nullptr;  // [experts + 1]
  const float* row_weights = nullptr;    // [rows] or null
  void* out = nullptr;
  std::int32_t experts = 0;
  std::int32_t outputs = 0;      // weight rows of an expert
  std::int32_t height = 0;       // weight rows of a block's tile, at most
  std::int32_t steps = 0;        // 128-byte pieces of a row
  std::int32_t step_values = 0;  // values in one
  bool starts_settled = false;   // written before the kernel that precedes this one began to end
};

}  // namespace pleiad::kernels::cuda::hopper
