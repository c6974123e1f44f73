#pragma once

#include <cstdint>

#include "kernels/cuda/detail/four.cuh"
#include "kernels/cuda/detail/hopper.cuh"
#include "kernels/cuda/detail/launch.cuh"
#include "kernels/cuda/gate_logits.h"

// A gate's logits for many rows: a block takes 32 rows and 32 experts, and what it multiplies
// passes through shared memory once, 128 inputs a step. Bound by the float units; the sums fall
// into the chains of gate_logits.h, a lane to a chain.
namespace pleiad::kernels::cuda::detail {

constexpr int kGateTile = 32;     // rows and experts of a block
constexpr int kGatePatch = 8;     // rows and experts of a warp
constexpr int kGateInputs = 128;  // of a step: four a lane
constexpr int kGateStages = 5;
constexpr int kGateWarps = (kGateTile / kGatePatch) * (kGateTile / kGatePatch);
constexpr int kGateThreads = kGateWarps * 32;

// Rows and weights of one step.
template <typename T>
struct GateStage {
  T rows[kGateTile][kGateInputs];
  float weights[kGateTile][kGateInputs];
};

// Where a block's tile begins.
struct GateCorner {
  std::int64_t row = 0;
  std::int64_t expert = 0;
};

// Starts copying kGateInputs elements, from `step` steps on, of kGateTile lines; a line past the
// end repeats the last one: its sums go nowhere.
template <typename T>
__device__ void fetch_gate_lines(
    const T* lines,
    std::int64_t stride,
    std::int64_t first,
    std::int64_t count,
    int inputs,
    int step,
    T (&into)[kGateTile][kGateInputs]
) {
  constexpr int kPer = 16 / static_cast<int>(sizeof(T));
  constexpr int kPieces = kGateInputs / kPer;
  for (int piece = static_cast<int>(threadIdx.x); piece < kGateTile * kPieces;
       piece += kGateThreads) {
    const int line = piece / kPieces;
    const int column = piece % kPieces * kPer;
    if (step * kGateInputs + column >= inputs) continue;
    const T* from = lines + min(first + line, count - 1) * stride + step * kGateInputs + column;
    hopper::copy_async<16>(hopper::shared_address(&into[line][column]), from);
  }
}

template <typename T>
__device__ void
fetch_gate_step(const GateLogitsTask& task, const GateCorner& corner, int step, GateStage<T>& to) {
  const auto inputs = static_cast<int>(task.weight.inputs);
  const auto* x = static_cast<const T*>(task.x.data);
  fetch_gate_lines(x, task.x.stride, corner.row, task.rows, inputs, step, to.rows);
  const auto* weights = reinterpret_cast<const float*>(task.weight.codes);
  const auto stride = task.weight.row_bytes / static_cast<std::int64_t>(sizeof(float));
  fetch_gate_lines(weights, stride, corner.expert, task.weight.outputs, inputs, step, to.weights);
}

// Adds sums over the lanes in the order of warp_sum(): the lanes of a pair that are kHalf / 2 apart
// share the first 2 * kHalf sums among them. Afterwards lane l has those of row l / 4, experts
// l % 4 * 2 and the next, in front.
template <int kHalf>
__device__ void share_gate_sums(float (&sums)[kGatePatch * kGatePatch]) {
  const bool upper = (threadIdx.x & static_cast<unsigned>(kHalf / 2)) != 0;
#pragma unroll
  for (int i = 0; i < kHalf; ++i) {
    const float sent = upper ? sums[i] : sums[i + kHalf];
    const float kept = upper ? sums[i + kHalf] : sums[i];
    sums[i] = kept + __shfl_xor_sync(kAllLanes, sent, kHalf / 2);
  }
  if constexpr (kHalf > 2) share_gate_sums<kHalf / 2>(sums);
}

__device__ inline void store_gate_sums(
    const GateLogitsTask& task,
    std::int64_t row,
    std::int64_t expert,
    const float* sums
) {
  const std::int64_t experts = task.weight.outputs;
  if (row >= task.rows) return;
  for (int e = 0; e < 2; ++e) {
    if (expert + e >= experts) return;
    const float bias = task.bias == nullptr ? 0.0F : task.bias[expert + e];
    task.logits[row * experts + expert + e] = sums[e] + bias;
  }
}

// REQUIRES: lines of whole 16 bytes.
template <typename T>
__global__ void __launch_bounds__(kGateThreads) multiply_gate_tiles(const GateLogitsTask task) {
  extern __shared__ __align__(16) unsigned char shared[];
  auto* stages = reinterpret_cast<GateStage<T>*>(shared);
  let_next_begin();
  wait_for_earlier_work();
  const GateCorner corner{
      .row = std::int64_t{blockIdx.y} * kGateTile, .expert = std::int64_t{blockIdx.x} * kGateTile};
  const auto inputs = static_cast<int>(task.weight.inputs);
  const int steps = (inputs + kGateInputs - 1) / kGateInputs;
  const auto fetch = [&](int step) {
    if (step < steps) fetch_gate_step(task, corner, step, stages[step % kGateStages]);
    hopper::copy_async_commit();
  };
  for (int step = 0; step + 1 < kGateStages; ++step) {
    fetch(step);
  }
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int first_row = warp / (kGateTile / kGatePatch) * kGatePatch;
  const int first_expert = warp % (kGateTile / kGatePatch) * kGatePatch;
  float sums[kGatePatch * kGatePatch] = {};
  for (int step = 0; step < steps; ++step) {
    hopper::copy_async_wait<kGateStages - 2>();
    __syncthreads();
    fetch(step + kGateStages - 1);
    if (step * kGateInputs + lane * 4 >= inputs) continue;
    const GateStage<T>& stage = stages[step % kGateStages];
    float4 weights[kGatePatch];
#pragma unroll
    for (int e = 0; e < kGatePatch; ++e) {
      weights[e] = load_four(&stage.weights[first_expert + e][lane * 4]);
    }
#pragma unroll
    for (int r = 0; r < kGatePatch; ++r) {
      const float4 x = load_four(&stage.rows[first_row + r][lane * 4]);
#pragma unroll
      for (int e = 0; e < kGatePatch; ++e) {
        sums[r * kGatePatch + e] = add_four(x, weights[e], sums[r * kGatePatch + e]);
      }
    }
  }
  share_gate_sums<kGatePatch * kGatePatch / 2>(sums);
  store_gate_sums(
      task, corner.row + first_row + lane / 4, corner.expert + first_expert + lane % 4 * 2, sums
  );
}

}  // namespace pleiad::kernels::cuda::detail
