#pragma once

#include <cstdint>

#include "device/cuda/stream.h"

namespace pleiad::kernels::cuda {

// Puts the lines of a step in the order of their experts.
struct GroupByExpertTask {
  const std::int32_t* ids = nullptr;        // [rows, topk]
  const std::int32_t* positions = nullptr;  // [rows]: a row with a negative one is left out
  const float* weights = nullptr;           // [rows, topk], or null
  std::int64_t rows = 0;
  std::int64_t topk = 0;
  std::int64_t experts = 0;
  std::int32_t* starts = nullptr;   // [experts + 1]: lines of expert e, starts[e] to starts[e + 1]
  std::int32_t* x_rows = nullptr;   // [rows * topk]: the row behind each line; 0 past the last
  std::int32_t* line_of = nullptr;  // [rows * topk]: the line of each choice; 0 in rows left out
  float* line_weights = nullptr;    // [rows * topk], with weights: the weight of each line
  std::int64_t counted = 0;         // the first experts, which `chosen` counts
  std::uint64_t* chosen = nullptr;  // [counted]: how often each was chosen is added; null: not
  std::int32_t* scratch = nullptr;  // [group_scratch_ints()]
};

// Choices that a block sorts; more take two launches.
inline constexpr std::int64_t kGroupedAtOnce = 1024;

// Room that grouping `rows` rows needs. Pure.
constexpr std::int64_t
group_scratch_ints(std::int64_t rows, std::int64_t topk, std::int64_t experts) {
  return (rows * topk + kGroupedAtOnce - 1) / kGroupedAtOnce * experts;
}

// Lines of one expert keep the order of their rows.
void group_by_expert(device::cuda::Stream& stream, const GroupByExpertTask& task);

}  // namespace pleiad::kernels::cuda
