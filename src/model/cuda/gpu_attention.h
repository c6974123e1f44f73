#pragma once

#include <cstdint>

#include "device/arena_plan.h"
#include "model/cuda/gpu_step.h"
#include "model/cuda/gpu_weights.h"
#include "model/gqa_layer.h"
#include "model/mla_layer.h"

namespace pleiad::model::cuda {

// Multi-head latent attention in absorbed form, as model/mla_layer.h's runner on the host.
class GpuMlaRunner {
 public:
  // Reserves its scratch in `plan`, alive from op 0 to 0.
  GpuMlaRunner(
      const MlaShape& shape,
      const GpuLimits& limits,
      device::DType activation,
      device::ArenaPlan& plan
  );

  // Makes the products of a layer ready; layers are alike.
  Result<void> prepare(Products& products, const GpuMla& weights) const;
  // Enqueues.
  void run(
      const GpuContext& context,
      const device::cuda::DeviceScratch& memory,
      const GpuMla& weights,
      const GpuAttentionStep& step
  ) const;

 private:
  struct Arrays;
  [[nodiscard]] Arrays arrays(const device::cuda::DeviceScratch& memory) const;
  void project_down(
      const GpuContext& context,
      const GpuMla& weights,
      const GpuAttentionStep& step,
      const Arrays& a
  ) const;
  void make_queries(
      const GpuContext& context,
      const GpuMla& weights,
      const GpuAttentionStep& step,
      const Arrays& a
  ) const;
  void attend(const GpuContext& context, const GpuAttentionStep& step, const Arrays& a) const;
  [[nodiscard]] kernels::AttentionPages pages(const GpuAttentionStep& step) const;
  // Stretches that a row's pages fall into at most: few where each takes much memory.
  [[nodiscard]] std::int64_t splits_max() const;

  MlaShape shape_;
  GpuLimits limits_;
  device::DType activation_;
  device::RegionId down_;
  device::RegionId q_low_;
  device::RegionId query_;
  device::RegionId latent_;
  device::RegionId q_latent_;
  device::RegionId attended_;
  device::RegionId values_;
  device::RegionId scratch_;
};

// Grouped-query attention, as model/gqa_layer.h's runner on the host.
class GpuGqaRunner {
 public:
  // As GpuMlaRunner.
  GpuGqaRunner(
      const GqaShape& shape,
      const GpuLimits& limits,
      device::DType activation,
      device::ArenaPlan& plan
  );
  Result<void> prepare(Products& products, const GpuGqa& weights) const;
  void run(
      const GpuContext& context,
      const device::cuda::DeviceScratch& memory,
      const GpuGqa& weights,
      const GpuAttentionStep& step
  ) const;

 private:
  void project(
      const GpuContext& context,
      const GpuGqa& weights,
      const GpuAttentionStep& step,
      const DeviceRows& qkv
  ) const;
  [[nodiscard]] kernels::AttentionPages pages(const GpuAttentionStep& step) const;

  GqaShape shape_;
  GpuLimits limits_;
  device::DType activation_;
  device::RegionId qkv_;
  device::RegionId attended_;
  device::RegionId scratch_;
};

}  // namespace pleiad::model::cuda
