#include "kernels/cuda/detail/tensor_map.h"

#include <array>

#include <cudaTypedefs.h>
#include <cuda_runtime_api.h>

#include "base/check.h"

namespace pleiad::kernels::cuda::hopper {

CUtensorMap tensor_map(const TensorBoxes& boxes) {
  void* encode = nullptr;
  cudaDriverEntryPointQueryResult found{};
  constexpr unsigned kSinceCuda12 = 12000;
  const cudaError_t status = cudaGetDriverEntryPointByVersion(
      "cuTensorMapEncodeTiled", &encode, kSinceCuda12, cudaEnableDefault, &found
  );
  PLEIAD_CHECK(
      status == cudaSuccess && found == cudaDriverEntryPointSuccess,
      "a driver that knows the copy engine"
  );
  CUtensorMap map{};
  const std::array<cuuint64_t, 2> sizes{
      static_cast<cuuint64_t>(boxes.columns), static_cast<cuuint64_t>(boxes.rows)};
  const std::array<cuuint64_t, 1> strides{static_cast<cuuint64_t>(boxes.row_bytes)};
  const std::array<cuuint32_t, 2> box{
      static_cast<cuuint32_t>(boxes.box_columns), static_cast<cuuint32_t>(boxes.box_rows)};
  const std::array<cuuint32_t, 2> steps{1, 1};
  const CUresult result = reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(encode
  )(&map,
    boxes.type,
    2,
    const_cast<void*>(boxes.data),
    sizes.data(),
    strides.data(),
    box.data(),
    steps.data(),
    CU_TENSOR_MAP_INTERLEAVE_NONE,
    CU_TENSOR_MAP_SWIZZLE_128B,
    CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
    CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  PLEIAD_CHECK(result == CUDA_SUCCESS, "a matrix and boxes the copy engine takes");
  return map;
}

}  // namespace pleiad::kernels::cuda::hopper
