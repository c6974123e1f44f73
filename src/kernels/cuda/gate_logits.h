#pragma once

#include <cstdint>

#include "device/cuda/stream.h"
#include "kernels/cuda/device_matrix.h"
#include "kernels/cuda/row_ops.h"

namespace pleiad::kernels::cuda {

// A gate's logits: products with the weights as stored, summed in float (DESIGN R4).
struct GateLogitsTask {
  DeviceRows x;  // [rows, inputs], activations
  std::int64_t rows = 0;
  DeviceMatrix weight;          // [experts, inputs], Plain; BF16 only with such rows
  const float* bias = nullptr;  // [experts] or null
  float* logits = nullptr;      // [rows, experts], dense
};

// Whether weights stored in BF16 are best left so: products with BF16 rows are exact then and run
// on the tensor cores. REQUIRES of BF16 weights.
bool gate_takes_bfloat16(std::int64_t inputs);

// logits = x W^T + bias. The order of every sum follows from the inputs and the weights' type
// alone: with float weights 32 chains over the inputs that are added pairwise, with BF16 those of
// detail/gate_chains.cuh.
void gate_logits(device::cuda::Stream& stream, const GateLogitsTask& task);

}  // namespace pleiad::kernels::cuda
