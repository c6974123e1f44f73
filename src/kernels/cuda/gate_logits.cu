#include "base/check.h"
#include "kernels/cuda/detail/four.cuh"
#include "kernels/cuda/detail/gate_tiles.cuh"
#include "kernels/cuda/detail/launch.cuh"
#include "kernels/cuda/gate_logits.h"

namespace pleiad::kernels::cuda {
namespace {

constexpr int kLanes = 32;
constexpr int kWarps = 4;

// The lines of a warp: kCount neighbours from `first` on. What lies outside repeats the last one
// inside; its sums go nowhere.
template <typename T, int kCount>
__device__ void lines_of(
    const T* lines,
    std::int64_t stride,
    std::int64_t first,
    std::int64_t count,
    const T* (&out)[kCount]
) {
  for (int i = 0; i < kCount; ++i) {
    out[i] = lines + (first + i < count ? first + i : count - 1) * stride;
  }
}

// Asks for the weights of a warp's experts while earlier work still runs: they depend on none.
__device__ void prefetch_weights(const DeviceMatrix& weight, std::int64_t first, int count) {
  constexpr int kLineBytes = 128;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const std::int64_t last = first + count < weight.outputs ? first + count : weight.outputs;
  const std::byte* end = weight.codes + last * weight.row_bytes;
  for (const std::byte* at = weight.codes + first * weight.row_bytes + lane * kLineBytes; at < end;
       at += kLanes * kLineBytes) {
    asm volatile("prefetch.global.L2 [%0];" ::"l"(at));
  }
}

// A warp takes kRows rows and kExperts experts; its lanes take turns over the inputs, four at a
// time. The more of both, the fewer bytes a product needs; the fewer, the more warps share the
// work.
template <typename T, bool kWhole, int kRows, int kExperts>
__global__ void __launch_bounds__(kWarps* kLanes) multiply_gate(const GateLogitsTask task) {
  detail::let_next_begin();
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const std::int64_t warp = std::int64_t{blockIdx.x} * kWarps + threadIdx.x / kLanes;
  const std::int64_t experts = task.weight.outputs;
  const std::int64_t first_expert = warp * kExperts;
  const std::int64_t first_row = std::int64_t{blockIdx.y} * kRows;
  if (first_expert < experts) prefetch_weights(task.weight, first_expert, kExperts);
  detail::wait_for_earlier_work();
  if (first_expert >= experts) return;
  const T* x[kRows];
  lines_of(static_cast<const T*>(task.x.data), task.x.stride, first_row, task.rows, x);
  const float* weight[kExperts];
  const auto weight_stride = task.weight.row_bytes / static_cast<std::int64_t>(sizeof(float));
  lines_of(
      reinterpret_cast<const float*>(task.weight.codes),
      weight_stride,
      first_expert,
      experts,
      weight
  );
  float sums[kRows][kExperts] = {};
  const auto inputs = static_cast<int>(task.weight.inputs);
#pragma unroll(kRows* kExperts == 1 ? 16 : kRows * kExperts <= 8 ? 4 : 1)
  for (int i = lane * 4; i < inputs; i += kLanes * 4) {
    float4 w[kExperts];
    for (int e = 0; e < kExperts; ++e) {
      w[e] = detail::load<kWhole>(weight[e] + i, inputs - i);
    }
    for (int r = 0; r < kRows; ++r) {
      const float4 value = detail::load<kWhole>(x[r] + i, inputs - i);
      for (int e = 0; e < kExperts; ++e) {
        sums[r][e] = detail::add_four(value, w[e], sums[r][e]);
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int e = 0; e < kExperts; ++e) {
      const float sum = detail::warp_sum(sums[r][e]);
      const std::int64_t expert = first_expert + e;
      if (lane != 0 || expert >= experts || first_row + r >= task.rows) continue;
      const float bias = task.bias == nullptr ? 0.0F : task.bias[expert];
      task.logits[(first_row + r) * experts + expert] = sum + bias;
    }
  }
}

template <typename T, bool kWhole, int kRows, int kExperts>
void launch_gate(device::cuda::Stream& stream, const GateLogitsTask& task) {
  const dim3 grid(
      detail::blocks_for(task.weight.outputs, kExperts * kWarps),
      detail::blocks_for(task.rows, kRows)
  );
  const auto kernel = multiply_gate<T, kWhole, kRows, kExperts>;
  detail::launch(stream, kernel, grid, kWarps * kLanes, 0, task);
}

template <typename T>
void launch_tiles(device::cuda::Stream& stream, const GateLogitsTask& task) {
  const dim3 grid(
      detail::blocks_for(task.weight.outputs, detail::kGateTile),
      detail::blocks_for(task.rows, detail::kGateTile)
  );
  constexpr std::size_t kShared = detail::kGateStages * sizeof(detail::GateStage<T>);
  const auto kernel = detail::multiply_gate_tiles<T>;
  detail::launch(stream, kernel, grid, detail::kGateThreads, kShared, task);
}

// Whether there are enough rows for tiles, in lines of whole 16 bytes.
template <typename T>
bool fits_tiles(const GateLogitsTask& task) {
  constexpr std::int64_t kTiledRows = 512;
  constexpr std::int64_t kPer = 16 / sizeof(T);
  return task.rows >= kTiledRows && task.weight.inputs % kPer == 0 && task.x.stride % kPer == 0 &&
         reinterpret_cast<std::uintptr_t>(task.x.data) % 16 == 0 && task.weight.row_bytes % 16 == 0;
}

template <typename T, bool kWhole>
void multiply(device::cuda::Stream& stream, const GateLogitsTask& task) {
  if (fits_tiles<T>(task)) {
    launch_tiles<T>(stream, task);
    return;
  }
  if (task.rows <= 4) {
    launch_gate<T, kWhole, 1, 1>(stream, task);
  } else if (task.rows <= 32) {
    launch_gate<T, kWhole, 4, 2>(stream, task);
  } else {
    launch_gate<T, kWhole, 8, 4>(stream, task);
  }
}

}  // namespace

void gate_logits(device::cuda::Stream& stream, const GateLogitsTask& task) {
  PLEIAD_CHECK(task.weight.format == WeightFormat::Plain);
  PLEIAD_CHECK(task.weight.compute == Compute::Float32);
  if (task.rows == 0) return;
  const bool whole = task.weight.inputs % 4 == 0 && task.x.stride % 4 == 0 &&
                     task.weight.row_bytes % (4 * sizeof(float)) == 0;
  detail::with_element(task.x.dtype, [&](auto element) {
    using T = decltype(element);
    if (whole) {
      multiply<T, true>(stream, task);
    } else {
      multiply<T, false>(stream, task);
    }
  });
  stream.launched("gate_logits", task.rows, task.weight.outputs);
}

}  // namespace pleiad::kernels::cuda
