#pragma once

#include <cstdint>

#include "device/cuda/stream.h"
#include "kernels/cuda/device_matrix.h"
#include "kernels/cuda/row_ops.h"
#include "kernels/expert_gate.h"

namespace pleiad::kernels::cuda {

// A gate's logits: products with float weights, summed in float (DESIGN R4).
struct GateLogitsTask {
  DeviceRows x;  // [rows, inputs], activations
  std::int64_t rows = 0;
  DeviceMatrix weight;          // [experts, inputs], Plain Float32
  const float* bias = nullptr;  // [experts] or null
  float* logits = nullptr;      // [rows, experts], dense
};

// logits = x W^T + bias. Every sum falls into 32 chains over the inputs that are added pairwise: an
// order that the inputs alone decide.
void gate_logits(device::cuda::Stream& stream, const GateLogitsTask& task);

// kernels/expert_gate.h's select_experts on device memory: same choices, weights equal but for the
// last bits of exponentials. A warp to a row.
struct SelectExpertsTask {
  GateOptions options;
  const float* logits = nullptr;  // [rows, experts], dense
  const float* bias = nullptr;    // [experts] added for the choice only; null: none
  std::int64_t rows = 0;
  std::int32_t* ids = nullptr;  // [rows, topk], ascending within a row
  float* weights = nullptr;     // [rows, topk]
};
void select_experts(device::cuda::Stream& stream, const SelectExpertsTask& task);

// Puts the lines of a step in the order of their experts.
struct GroupByExpertTask {
  const std::int32_t* ids = nullptr;        // [rows, topk]
  const std::int32_t* positions = nullptr;  // [rows]: a row with a negative one is left out
  std::int64_t rows = 0;
  std::int64_t topk = 0;
  std::int64_t experts = 0;
  std::int32_t* starts = nullptr;   // [experts + 1]: lines of expert e, starts[e] to starts[e + 1]
  std::int32_t* x_rows = nullptr;   // [rows * topk]: the row behind each line; 0 past the last
  std::int32_t* line_of = nullptr;  // [rows * topk]: the line of each choice; 0 in rows left out
  std::uint64_t* chosen =
      nullptr;  // [experts]: how often each was chosen is added; null: not counted
};

// Lines of one expert keep the order of their rows. A block to an expert.
void group_by_expert(device::cuda::Stream& stream, const GroupByExpertTask& task);

}  // namespace pleiad::kernels::cuda
