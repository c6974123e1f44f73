#pragma once

#include <cstdint>

#include "device/cuda/stream.h"
#include "kernels/cuda/row_ops.h"
#include "kernels/rope.h"

namespace pleiad::kernels::cuda {

struct RotateTask {
  DeviceRows x;  // heads of a row are head_stride elements apart; rotated in place
  std::int64_t head_stride = 0;
  std::int64_t rows = 0;
  std::int64_t heads = 0;
  std::int64_t width = 0;                   // of a head, from its first element on, what turns
  const float* cos_sin = nullptr;           // [positions, 2, width / 2] of rope_angles
  const std::int32_t* positions = nullptr;  // [rows]; a negative one is left as it is
  RopePairs pairs = RopePairs::Interleaved;
};

// kernels/rope.h's apply_rope with the angles of all positions ready in GPU memory. Same bits.
void apply_rope(device::cuda::Stream& stream, const RotateTask& task);

}  // namespace pleiad::kernels::cuda
