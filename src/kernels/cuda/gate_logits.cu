#include "base/check.h"
#include "kernels/cuda/detail/four.cuh"
#include "kernels/cuda/detail/gate_chains.cuh"
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

template <typename T, bool kWhole>
void multiply(device::cuda::Stream& stream, const GateLogitsTask& task) {
  if (task.rows <= 4) {
    launch_gate<T, kWhole, 1, 1>(stream, task);
  } else if (task.rows <= 32) {
    launch_gate<T, kWhole, 4, 2>(stream, task);
  } else {
    launch_gate<T, kWhole, 8, 4>(stream, task);
  }
}

constexpr int kChainThreads = detail::kGateChains * kLanes;

// A tile of rows and experts, which many of either share a block.
template <int kRowTilesValue, int kExpertTilesValue>
struct ChainTile {
  static constexpr int kRowTiles = kRowTilesValue;
  static constexpr int kExpertTiles = kExpertTilesValue;
  static constexpr int kRows = kRowTiles * detail::kGateTileRows;
  static constexpr int kExperts = kExpertTiles * detail::kGateTileExperts;
  static constexpr int kSums = kRows * kExperts;
};

// Lines past the last repeat it: their sums go nowhere.
template <typename Tile>
__device__ auto
chain_lines(const GateLogitsTask& task, std::int64_t first_row, std::int64_t first_expert) {
  detail::GateLines<Tile::kRowTiles, Tile::kExpertTiles> lines;
  const auto* x = static_cast<const detail::BF16*>(task.x.data) + detail::gate_lane_input();
  const auto* weights =
      reinterpret_cast<const detail::BF16*>(task.weight.codes) + detail::gate_lane_input();
  const auto stride = task.weight.row_bytes / static_cast<std::int64_t>(sizeof(detail::BF16));
  const int line = static_cast<int>(threadIdx.x) % kLanes / 4;
#pragma unroll
  for (int half = 0; half < 2 * Tile::kRowTiles; ++half) {
    const std::int64_t row = min(first_row + half * 8 + line, task.rows - 1);
    lines.rows[half / 2][half % 2] = x + row * task.x.stride;
  }
#pragma unroll
  for (int e = 0; e < Tile::kExpertTiles; ++e) {
    const std::int64_t expert = min(first_expert + e * 8 + line, task.weight.outputs - 1);
    lines.experts[e] = weights + expert * stride;
  }
  return lines;
}

// A block's warps take a chain each of a tile, then add them up.
template <typename Tile>
__global__ void __launch_bounds__(kChainThreads) multiply_chains(const GateLogitsTask task) {
  extern __shared__ float chain_sums[];  // [chains, rows, experts]
  detail::let_next_begin();
  const int chain = static_cast<int>(threadIdx.x) / kLanes;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const std::int64_t first_expert = std::int64_t{blockIdx.x} * Tile::kExperts;
  const std::int64_t first_row = std::int64_t{blockIdx.y} * Tile::kRows;
  const auto lines = chain_lines<Tile>(task, first_row, first_expert);
  float sums[Tile::kRowTiles][Tile::kExpertTiles][4] = {};
  prefetch_weights(task.weight, first_expert + chain, 1);
  detail::wait_for_earlier_work();
  detail::multiply_chain(lines, chain, static_cast<int>(task.weight.inputs), sums);
  float* mine = chain_sums + chain * Tile::kSums + lane / 4 * Tile::kExperts + lane % 4 * 2;
#pragma unroll
  for (int r = 0; r < Tile::kRowTiles; ++r) {
#pragma unroll
    for (int e = 0; e < Tile::kExpertTiles; ++e) {
      float* at = mine + r * detail::kGateTileRows * Tile::kExperts + e * detail::kGateTileExperts;
      at[0] = sums[r][e][0];
      at[1] = sums[r][e][1];
      at[8 * Tile::kExperts] = sums[r][e][2];
      at[8 * Tile::kExperts + 1] = sums[r][e][3];
    }
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < Tile::kSums; i += kChainThreads) {
    const std::int64_t row = first_row + i / Tile::kExperts;
    const std::int64_t expert = first_expert + i % Tile::kExperts;
    if (row >= task.rows || expert >= task.weight.outputs) continue;
    const float bias = task.bias == nullptr ? 0.0F : task.bias[expert];
    const float sum = detail::sum_of_chains(chain_sums + i, Tile::kSums);
    task.logits[row * task.weight.outputs + expert] = sum + bias;
  }
}

template <typename Tile>
void launch_chains(device::cuda::Stream& stream, const GateLogitsTask& task) {
  const dim3 grid(
      detail::blocks_for(task.weight.outputs, Tile::kExperts),
      detail::blocks_for(task.rows, Tile::kRows)
  );
  constexpr std::size_t kShared = detail::kGateChains * Tile::kSums * sizeof(float);
  detail::launch(stream, multiply_chains<Tile>, grid, kChainThreads, kShared, task);
}

// The larger a tile, the fewer bytes pass; the smaller, the more multiprocessors share the work.
void multiply_on_tensor_cores(device::cuda::Stream& stream, const GateLogitsTask& task) {
  PLEIAD_CHECK(gate_takes_bfloat16(task.weight.inputs));
  PLEIAD_CHECK(task.x.dtype == device::DType::BF16 && task.x.stride % 8 == 0);
  PLEIAD_CHECK(reinterpret_cast<std::uintptr_t>(task.x.data) % 16 == 0);
  if (task.rows <= 128) {
    launch_chains<ChainTile<1, 1>>(stream, task);
  } else if (task.rows <= 2048) {
    launch_chains<ChainTile<2, 4>>(stream, task);
  } else {
    launch_chains<ChainTile<4, 8>>(stream, task);
  }
}

void multiply_on_float_units(device::cuda::Stream& stream, const GateLogitsTask& task) {
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
}

}  // namespace

bool gate_takes_bfloat16(std::int64_t inputs) {
  return inputs % detail::kGateSpan == 0;
}

void gate_logits(device::cuda::Stream& stream, const GateLogitsTask& task) {
  PLEIAD_CHECK(task.weight.format == WeightFormat::Plain);
  if (task.rows == 0) return;
  if (task.weight.compute == Compute::BFloat16) {
    multiply_on_tensor_cores(stream, task);
  } else {
    multiply_on_float_units(stream, task);
  }
  stream.launched("gate_logits", task.rows, task.weight.outputs);
}

}  // namespace pleiad::kernels::cuda
