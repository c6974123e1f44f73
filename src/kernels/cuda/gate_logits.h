#pragma once

#include <cstdint>

#include "device/cuda/stream.h"
#include "kernels/cuda/device_matrix.h"
#include "kernels/cuda/row_ops.h"

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

}  // namespace pleiad::kernels::cuda
