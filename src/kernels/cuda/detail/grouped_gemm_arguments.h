#pragma once

#include <cstdint>

namespace pleiad::kernels::cuda::hopper {

// What a grouped product's kernel reads and writes, all in device memory.
struct GroupedArguments {
  const unsigned char* weights = nullptr;  // packed
  const unsigned char* x = nullptr;  // activation rows, gathered through x_index if that is given
  const std::int32_t* x_index = nullptr;  // [rows]
  const std::int32_t* starts = nullptr;   // [experts + 1]
  void* out = nullptr;
  std::int32_t experts = 0;
  std::int32_t outputs = 0;      // weight rows of an expert
  std::int32_t steps = 0;        // 128-byte pieces of a row
  std::int32_t step_values = 0;  // values in one
};

}  // namespace pleiad::kernels::cuda::hopper
