#pragma once

#include "device/cpu_isa.h"
#include "device/dtype.h"
#include "device/thread_pool.h"

namespace pleiad::kernels {

// The arithmetic of a model's matrix products. Activations always travel as float arrays; under
// BFloat16 their values are representable in BF16 wherever an op says "rounded".
//   Float32   weights and products in float
//   BFloat16  weights stored as BF16, inputs rounded to BF16, sums in float
enum class Compute { Float32, BFloat16 };

// What every op needs: who does the work and with which instructions. Borrowed pointers; an op uses
// them only during its call. Ops of one context are called by one thread at a time.
struct Context {
  device::ThreadPool* pool = nullptr;
  device::CpuIsa isa = device::CpuIsa::Portable;
  Compute compute = Compute::Float32;
};

// `value` as an activation: rounded to BF16 under BFloat16, unchanged under Float32.
inline float round_activation(float value, Compute compute) {
  return compute == Compute::BFloat16 ? device::round_to_bf16(value) : value;
}

}  // namespace pleiad::kernels
