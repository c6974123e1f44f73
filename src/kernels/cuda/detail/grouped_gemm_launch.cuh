#pragma once

#include <cuda_runtime.h>

#include "kernels/cuda/detail/grouped_gemm_kernel.cuh"
#include "kernels/cuda/detail/grouped_gemm_launch.h"
#include "kernels/cuda/detail/grouped_gemm_wide.cuh"

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

// As many stages as fit beside the rest.
template <GroupedOutput kOutput>
cudaError_t launch_grouped_bf16(const GroupedLaunch& launch) {
  constexpr GroupedFormat kFormat = GroupedFormat::BFloat16;
  if (launch.tile.rows == 64) {
    if (launch.gathered)
      return launch_shape<GroupedShapeOf<kFormat, 64, 9, 1, true>, kOutput>(launch);
    return launch_shape<GroupedShapeOf<kFormat, 64, 9, 1, false>, kOutput>(launch);
  }
  if (launch.gathered)
    return launch_shape<GroupedShapeOf<kFormat, 256, 4, 1, true>, kOutput>(launch);
  if (launch.tile.cluster == 2) {
    return launch_shape<GroupedShapeOf<kFormat, 256, 4, 2, false>, kOutput>(launch);
  }
  return launch_shape<GroupedShapeOf<kFormat, 256, 4, 1, false>, kOutput>(launch);
}

template <GroupedOutput kOutput>
cudaError_t launch_grouped_fp8(const GroupedLaunch& launch) {
  constexpr GroupedFormat kFormat = GroupedFormat::Fp8Blocks;
  if (launch.tile.rows == 128) {
    return launch_kernel(
        grouped_gemm_wide_kernel<WideShape, kOutput>,
        launch,
        grouped_shared_bytes<WideShape>(),
        launch.arguments,
        GroupedMaps{launch.rows_64, launch.rows_8}
    );
  }
  if (launch.tile.rows == 256)
    return launch_shape<GroupedShapeOf<kFormat, 256, 4, 1, true>, kOutput>(launch);
  if (launch.gathered)
    return launch_shape<GroupedShapeOf<kFormat, 64, 8, 1, true>, kOutput>(launch);
  return launch_shape<GroupedShapeOf<kFormat, 64, 8, 1, false>, kOutput>(launch);
}

}  // namespace pleiad::kernels::cuda::hopper
