#include "kernels/cuda/detail/fast_attention.h"

#include <array>

#include <cuda_runtime_api.h>

namespace pleiad::kernels::cuda::hopper {

void launch_attention(
    device::cuda::Stream& stream,
    void (*kernel)(AttentionArguments, CUtensorMap),
    const FastAttention& task,
    std::int32_t threads,
    std::int32_t shared_bytes
) {
  const auto* function = reinterpret_cast<const void*>(kernel);
  static_cast<void>(
      cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes)
  );
  static_cast<void>(
      cudaFuncSetAttribute(function, cudaFuncAttributeNonPortableClusterSizeAllowed, 1)
  );
  std::array<cudaLaunchAttribute, 2> attributes = {};
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim.x = static_cast<unsigned>(task.arguments.team);
  attributes[1].val.clusterDim.y = 1;
  attributes[1].val.clusterDim.z = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(task.blocks));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = static_cast<std::size_t>(shared_bytes);
  config.stream = stream.handle();
  config.attrs = attributes.data();
  config.numAttrs = task.arguments.team > 0 ? 2 : 1;
  void* values[] = {
      const_cast<AttentionArguments*>(&task.arguments), const_cast<CUtensorMap*>(&task.map)};
  static_cast<void>(cudaLaunchKernelExC(&config, function, values));
}

}  // namespace pleiad::kernels::cuda::hopper
