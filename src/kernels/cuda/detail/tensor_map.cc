#include "kernels/cuda/detail/tensor_map.h"

#include <array>

#include <cudaTypedefs.h>
#include <cuda_runtime_api.h>

#include "base/check.h"

namespace pleiad::kernels::cuda::hopper {

namespace {

// A map of any number of dimensions, the fastest first; `strides` in bytes, without the first's.
template <std::size_t kDimensions>
struct MapSizes {
  std::array<cuuint64_t, kDimensions> sizes{};
  std::array<cuuint64_t, kDimensions - 1> strides{};
  std::array<cuuint32_t, kDimensions> box{};
};

template <std::size_t kDimensions>
CUtensorMap
make_map(const void* data, CUtensorMapDataType type, const MapSizes<kDimensions>& sizes) {
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
  std::array<cuuint32_t, kDimensions> steps{};
  steps.fill(1);
  const CUresult result = reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(encode
  )(&map,
    type,
    static_cast<cuuint32_t>(kDimensions),
    const_cast<void*>(data),
    sizes.sizes.data(),
    sizes.strides.data(),
    sizes.box.data(),
    steps.data(),
    CU_TENSOR_MAP_INTERLEAVE_NONE,
    CU_TENSOR_MAP_SWIZZLE_128B,
    CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
    CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  PLEIAD_CHECK(result == CUDA_SUCCESS, "an array and boxes the copy engine takes");
  return map;
}

}  // namespace

CUtensorMap tensor_map(const TensorBoxes& boxes) {
  return make_map<2>(
      boxes.data,
      boxes.type,
      {.sizes = {static_cast<cuuint64_t>(boxes.columns), static_cast<cuuint64_t>(boxes.rows)},
       .strides = {static_cast<cuuint64_t>(boxes.row_bytes)},
       .box = {static_cast<cuuint32_t>(boxes.box_columns), static_cast<cuuint32_t>(boxes.box_rows)}}
  );
}

CUtensorMap page_map(const PageBoxes& boxes) {
  constexpr cuuint64_t kPagesMax = cuuint64_t{1} << 31;
  constexpr cuuint32_t kBoxColumns = 64;
  constexpr cuuint64_t kElementBytes = 2;
  const auto columns = static_cast<cuuint64_t>(boxes.columns);
  return make_map<3>(
      boxes.data,
      CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
      {.sizes = {columns, static_cast<cuuint64_t>(boxes.lines), kPagesMax},
       .strides = {columns * kElementBytes, static_cast<cuuint64_t>(boxes.page_bytes)},
       .box = {kBoxColumns, static_cast<cuuint32_t>(boxes.lines), 1}}
  );
}

}  // namespace pleiad::kernels::cuda::hopper
