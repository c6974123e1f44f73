#pragma once

#include <cstdint>

#include "device/arena_plan.h"
#include "ep/moe_weights.h"
#include "model/cuda/gpu_step.h"
#include "model/cuda/gpu_weights.h"

namespace pleiad::model::cuda {

// Dense feed-forward layers, as model/dense_mlp.h's runner on the host.
class GpuMlpRunner {
 public:
  // Reserves its scratch in `plan`, alive from op 0 to 0.
  GpuMlpRunner(
      std::int64_t hidden,
      std::int64_t intermediate,
      const GpuLimits& limits,
      device::DType activation,
      device::ArenaPlan& plan
  );

  Result<void> prepare(Products& products, const GpuMlp& weights, device::DType out_dtype) const;
  // out = mlp(x), [rows, hidden] each. Enqueues.
  void run(
      const GpuContext& context,
      const device::cuda::DeviceScratch& memory,
      const GpuMlp& weights,
      std::int64_t rows,
      const DeviceRows& x,
      const DeviceRows& out
  ) const;

 private:
  std::int64_t hidden_;
  std::int64_t intermediate_;
  device::DType activation_;
  device::RegionId gate_up_;
  device::RegionId product_;
};

// Layers of experts on one rank, as ep/moe_layer.h's runner on the host.
class GpuMoeRunner {
 public:
  GpuMoeRunner(
      const ep::MoeShape& shape,
      const GpuLimits& limits,
      device::DType activation,
      device::ArenaPlan& plan
  );

  Result<void> prepare(Products& products, const GpuMoe& weights) const;
  // Zeroes what steps leave as they found it. Enqueues, once.
  void clear(device::cuda::Stream& stream, const device::cuda::DeviceScratch& memory) const;

  struct Step {
    DeviceRows delta;  // [rows, hidden], activations: attention's output, not yet in residual
    std::int64_t rows = 0;
    const std::int32_t* positions = nullptr;  // [rows]; a row with a negative one is left out
    std::uint64_t* expert_tokens = nullptr;   // [experts], in GPU memory: counted up
    float* residual = nullptr;    // [rows, hidden]: delta and the layer's output are added here
    const float* norm = nullptr;  // [hidden], of this layer
    const float* next_norm = nullptr;  // [hidden], of the layer behind; null: there is none
    float epsilon = 1e-6F;
    // [rows, hidden], activations: what the experts take, then the normalised residual.
    DeviceRows x;
  };
  // Enqueues.
  void run(
      const GpuContext& context,
      const device::cuda::DeviceScratch& memory,
      const GpuMoe& weights,
      const Step& step
  ) const;

 private:
  void route(
      const GpuContext& context,
      const device::cuda::DeviceScratch& memory,
      const GpuMoe& weights,
      const Step& step
  ) const;
  void combine(
      const GpuContext& context,
      const device::cuda::DeviceScratch& memory,
      const GpuMoe& weights,
      const Step& step
  ) const;
  void run_experts(
      const GpuContext& context,
      const device::cuda::DeviceScratch& memory,
      const GpuMoe& weights,
      const Step& step
  ) const;

  void run_grouped(
      const GpuContext& context,
      const device::cuda::DeviceScratch& memory,
      const GpuMoe& weights,
      const Step& step
  ) const;

  ep::MoeShape shape_;
  device::DType activation_;
  std::int64_t lines_;  // of a row, at most: its experts, shared ones too
  GpuMlpRunner shared_;
  device::RegionId logits_;
  device::RegionId ids_;
  device::RegionId weights_;
  device::RegionId starts_;
  device::RegionId group_scratch_;
  device::RegionId x_rows_;
  device::RegionId line_of_;
  device::RegionId line_weights_;
  device::RegionId arrivals_;
  device::RegionId gate_up_;
  device::RegionId product_;
  device::RegionId expert_out_;
  device::RegionId shared_out_;
};

}  // namespace pleiad::model::cuda
