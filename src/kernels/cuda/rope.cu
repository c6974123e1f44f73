#include "kernels/cuda/detail/device_math.cuh"
#include "kernels/cuda/rope.h"

namespace pleiad::kernels::cuda {
namespace {

using detail::to_float;

constexpr unsigned kThreads = 128;

// One thread a pair.
template <typename T>
__global__ void rotate(const RotateTask task) {
  const std::int64_t half = task.width / 2;
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const std::int64_t pair = index % half;
  const std::int64_t head = index / half % task.heads;
  const std::int64_t row = index / half / task.heads;
  if (row >= task.rows) return;
  const std::int64_t position = task.positions[row];
  if (position < 0) return;
  T* x = static_cast<T*>(task.x.data) + row * task.x.stride + head * task.head_stride;
  const bool interleaved = task.pairs == RopePairs::Interleaved;
  T& first = x[interleaved ? 2 * pair : pair];
  T& second = x[interleaved ? 2 * pair + 1 : pair + half];
  const float c = task.cos_sin[position * task.width + pair];
  const float s = task.cos_sin[position * task.width + half + pair];
  const float a = to_float(first);
  const float b = to_float(second);
  first = detail::from_float<T>(a * c - b * s);
  second = detail::from_float<T>(b * c + a * s);
}

}  // namespace

void apply_rope(device::cuda::Stream& stream, const RotateTask& task) {
  const std::int64_t threads = task.rows * task.heads * task.width / 2;
  if (threads == 0) return;
  detail::with_element(task.x.dtype, [&](auto element) {
    rotate<decltype(element)>
        <<<detail::blocks_for(threads, kThreads), kThreads, 0, stream.handle()>>>(task);
  });
  stream.launched("apply_rope", task.rows, task.heads * task.width);
}

}  // namespace pleiad::kernels::cuda
