#pragma once

#include <cuda_runtime.h>

#include "kernels/cuda/detail/grouped_gemm_kernel.cuh"
#include "kernels/cuda/detail/grouped_gemm_launch.h"

// From a described launch to the kernel of its tile.
namespace pleiad::kernels::cuda::hopper {

// Launches `kernel` with `shared_bytes` of dynamic shared memory.
template <class... Parameters, class... Values>
cudaError_t launch_kernel(
    void (*kernel)(Parameters...),
    const GroupedLaunch& launch,
    int shared_bytes,
    Values... values
) {
  const cudaError_t status = cudaFuncSetAttribute(
      reinterpret_cast<const void*>(kernel),
      cudaFuncAttributeMaxDynamicSharedMemorySize,
      shared_bytes
  );
  if (status != cudaSuccess) return status;
  cudaLaunchAttribute attributes[2] = {};
  attributes[0].id = cudaLaunchAttributeClusterDimension;
  attributes[0].val.clusterDim.x = static_cast<unsigned>(launch.tile.cluster);
  attributes[0].val.clusterDim.y = 1;
  attributes[0].val.clusterDim.z = 1;
  attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[1].val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(launch.blocks));
  config.blockDim = dim3(kGroupedThreads);
  config.dynamicSmemBytes = static_cast<std::size_t>(shared_bytes);
  config.stream = launch.stream;
  config.attrs = attributes;
  config.numAttrs = launch.overlap ? 2 : 1;
  return cudaLaunchKernelEx(&config, kernel, values...);
}

template <class Shape, GroupedOutput kOutput>
cudaError_t launch_shape(const GroupedLaunch& launch) {
  const GroupedMaps maps{launch.rows_64, launch.rows_8};
  return launch_kernel(
      grouped_gemm_kernel<Shape, kOutput>,
      launch,
      grouped_shared_bytes<Shape>(),
      launch.arguments,
      maps
  );
}

template <GroupedFormat kFormat, GroupedOutput kOutput, int kRows, int kStages>
cudaError_t launch_rows(const GroupedLaunch& launch) {
  if (launch.gathered) {
    return launch_shape<GroupedShapeOf<kFormat, kRows, kStages, 1, true>, kOutput>(launch);
  }
  if (launch.tile.cluster == 2) {
    return launch_shape<GroupedShapeOf<kFormat, kRows, kStages, 2, false>, kOutput>(launch);
  }
  return launch_shape<GroupedShapeOf<kFormat, kRows, kStages, 1, false>, kOutput>(launch);
}

// As many stages as fit beside the schedule.
template <GroupedFormat kFormat, GroupedOutput kOutput>
cudaError_t launch_grouped(const GroupedLaunch& launch) {
  if (launch.tile.rows == 64) {
    constexpr int kStages = kFormat == GroupedFormat::BFloat16 ? 9 : 8;
    return launch_rows<kFormat, kOutput, 64, kStages>(launch);
  }
  if (launch.tile.rows == 128) return launch_rows<kFormat, kOutput, 128, 6>(launch);
  return launch_rows<kFormat, kOutput, 256, 4>(launch);
}

}  // namespace pleiad::kernels::cuda::hopper
