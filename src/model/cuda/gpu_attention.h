#pragma once

#include <cstdint>

#include "device/arena_plan.h"
#include "model/cuda/gpu_step.h"
#include "model/cuda/gpu_weights.h"
#include "model/gqa_layer.h"
#include "model/mla_layer.h"

namespace pleiad::model::cuda {

// Which kernel attends for a model, and its room in the scratch.
class AttentionRoom {
 public:
  AttentionRoom(
      const kernels::cuda::AttentionShape& shape,
      std::int64_t splits_max,  // of the generic kernel
      const GpuLimits& limits,
      device::ArenaPlan& plan
  );

  // Enqueues the list of a step's work, which all layers share.
  void begin(
      const GpuContext& context,
      const device::cuda::DeviceScratch& memory,
      std::int64_t rows,
      const kernels::cuda::RowPlaces& places
  ) const;
  // Fills in what a layer's task needs of the room.
  void furnish(const device::cuda::DeviceScratch& memory, kernels::cuda::PagedAttentionTask& task)
      const;

 private:
  [[nodiscard]] kernels::cuda::AttentionWork work(const device::cuda::DeviceScratch& memory) const;

  kernels::cuda::AttentionPlan plan_;
  std::int64_t splits_max_;
  GpuLimits limits_;
  device::RegionId stretches_;
  device::RegionId list_;
};

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
  // Enqueues what a step's layers share.
  void begin(
      const GpuContext& context,
      const device::cuda::DeviceScratch& memory,
      std::int64_t rows,
      const kernels::cuda::RowPlaces& places
  ) const;
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
  void project(
      const GpuContext& context,
      const GpuMla& weights,
      const GpuAttentionStep& step,
      const Arrays& a
  ) const;
  void attend(
      const GpuContext& context,
      const device::cuda::DeviceScratch& memory,
      const GpuAttentionStep& step,
      const Arrays& a
  ) const;
  [[nodiscard]] kernels::AttentionPages pages(const GpuAttentionStep& step) const;

  MlaShape shape_;
  GpuLimits limits_;
  device::DType activation_;
  device::RegionId down_;
  device::RegionId q_low_;
  device::RegionId query_;
  device::RegionId q_latent_;
  device::RegionId attended_;
  device::RegionId values_;
  AttentionRoom room_;
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
  void begin(
      const GpuContext& context,
      const device::cuda::DeviceScratch& memory,
      std::int64_t rows,
      const kernels::cuda::RowPlaces& places
  ) const;
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
  AttentionRoom room_;
};

}  // namespace pleiad::model::cuda
