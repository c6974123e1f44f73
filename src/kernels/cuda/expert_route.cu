#include <algorithm>

#include "base/check.h"
#include "kernels/cuda/detail/four.cuh"
#include "kernels/cuda/detail/group_lines.cuh"
#include "kernels/cuda/detail/hopper.cuh"
#include "kernels/cuda/detail/launch.cuh"
#include "kernels/cuda/detail/select_row.cuh"
#include "kernels/cuda/expert_route.h"

// The way to the experts for few rows in one launch: every block normalises one row and multiplies
// it with some of the gate; the last block to arrive chooses and groups. What a block needs of the
// gate it fetches while the kernel before this one still runs.
namespace pleiad::kernels::cuda {
namespace {

constexpr int kGateBytes = 64 * 1024;  // of the gate's weights in a block, about
constexpr int kThreadsMax = 256;       // detail::norm_threads()' most

// A block's shared memory, in floats: its part of the gate, the row, the norm's weights; or, once
// the logits are there, what choosing and grouping needs.
struct RouteRoom {
  int experts = 0;  // of the gate in a block
  std::size_t bytes = 0;
};

RouteRoom room_of(const ExpertRouteTask& task, unsigned threads) {
  const std::int64_t inputs = task.gate.weight.inputs;
  const auto line = inputs * static_cast<std::int64_t>(sizeof(float));
  const auto warps = static_cast<int>(threads / 32);
  const int experts = std::clamp(static_cast<int>(kGateBytes / line), 1, warps);
  const std::int64_t ints = detail::chunk_ints(task.group.experts, warps);
  const std::size_t choosing = detail::gate_rows_bytes(task.select.options, warps) +
                               static_cast<std::size_t>(ints) * sizeof(int);
  const auto gate = static_cast<std::size_t>((experts + 2) * line);
  return {.experts = experts, .bytes = std::max(gate, choosing)};
}

// Starts copying `count` floats, a multiple of four; a thread copies what it reads in
// normalise_row().
__device__ void fetch(const float* from, int count, float* into) {
  const std::uint32_t to = hopper::shared_address(into);
  for (int i = static_cast<int>(threadIdx.x) * 4; i < count;
       i += static_cast<int>(blockDim.x) * 4) {
    hopper::copy_async<16>(to + static_cast<std::uint32_t>(i) * 4, from + i);
  }
  hopper::copy_async_commit();
}

// Starts copying the gate's lines of this block.
__device__ void fetch_gate(const DeviceMatrix& gate, int experts, float* into) {
  const std::int64_t first = std::int64_t{blockIdx.x} * experts;
  const auto count = static_cast<int>(min(std::int64_t{experts}, gate.outputs - first));
  const auto* from = reinterpret_cast<const float*>(gate.codes) + first * gate.inputs;
  fetch(from, count * static_cast<int>(gate.inputs), into);
}

// The row's norm, as rms_norm() adds and rounds, into `row`, and by the first block out. `weights`:
// the norm's, that this thread fetched.
template <typename T>
__device__ void
normalise_row(const RmsNormTask& task, std::int64_t index, const float* weights, float* row) {
  __shared__ float sums[detail::kWarp];
  const float* x = static_cast<const float*>(task.x.data) + index * task.x.stride;
  const T* add = static_cast<const T*>(task.add.data) + index * task.add.stride;
  T* y = static_cast<T*>(task.y.data) + index * task.y.stride;
  const int width = static_cast<int>(task.width);
  const int step = static_cast<int>(blockDim.x) * 4;
  float sum = 0.0F;
  for (int i = static_cast<int>(threadIdx.x) * 4; i < width; i += step) {
    float4 value = detail::load_four(x + i);
    if (task.add.data != nullptr) value = detail::plus(value, detail::load_four(add + i));
    detail::store_four(row + i, value);
    sum = detail::add_four(value, value, sum);
  }
  sum = detail::block_sum(sum, sums);
  const float factor = 1.0F / sqrtf(sum / static_cast<float>(width) + task.epsilon);
  for (int i = static_cast<int>(threadIdx.x) * 4; i < width; i += step) {
    const float4 weight = detail::load_four(weights + i);
    const float4 value = detail::scaled(detail::load_four(row + i), factor, weight);
    detail::store_four(row + i, detail::rounded_four<T>(value));
    if (blockIdx.x == 0) detail::store_four(y + i, value);
  }
}

// Logits of a row with this block's part of the gate, as gate_logits() adds: a warp to an expert.
__device__ void
multiply_row(const GateLogitsTask& task, std::int64_t row, int experts, const float* shared) {
  const int warps = static_cast<int>(blockDim.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int inputs = static_cast<int>(task.weight.inputs);
  const float* x = shared + experts * inputs;
  for (int e = static_cast<int>(threadIdx.x) / 32; e < experts; e += warps) {
    const std::int64_t expert = std::int64_t{blockIdx.x} * experts + e;
    if (expert >= task.weight.outputs) return;
    const float* weight = shared + e * inputs;
    float sum = 0.0F;
#pragma unroll 4
    for (int i = lane * 4; i < inputs; i += 128) {
      sum = detail::add_four(detail::load_four(x + i), detail::load_four(weight + i), sum);
    }
    sum = detail::warp_sum(sum);
    const float bias = task.bias == nullptr ? 0.0F : task.bias[expert];
    if (lane == 0) task.logits[row * task.weight.outputs + expert] = sum + bias;
  }
}

// Whether this block is the last one to come here. What the others wrote before is visible to it.
__device__ bool arrives_last(std::uint32_t* arrivals) {
  __shared__ bool is_last;
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();
    const unsigned last = gridDim.x * gridDim.y - 1;
    is_last = atomicInc(arrivals, last) == last;
    __threadfence();
  }
  __syncthreads();
  return is_last;
}

template <typename T, int kPer>
__global__ void __launch_bounds__(kThreadsMax)
    route_rows(const ExpertRouteTask task, const int experts) {
  extern __shared__ __align__(16) float shared_floats[];
  detail::let_next_begin();
  const int inputs = static_cast<int>(task.gate.weight.inputs);
  float* row_floats = shared_floats + experts * inputs;
  fetch_gate(task.gate.weight, experts, shared_floats);
  fetch(task.norm.weight, inputs, row_floats + inputs);
  detail::wait_for_earlier_work();
  const std::int64_t row = blockIdx.y;
  hopper::copy_async_wait<0>();
  normalise_row<T>(task.norm, row, row_floats + inputs, row_floats);
  __syncthreads();
  multiply_row(task.gate, row, experts, shared_floats);
  if (!arrives_last(task.arrivals)) return;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int warps = static_cast<int>(blockDim.x) / 32;
  for (int r = warp; r < static_cast<int>(task.select.rows); r += warps) {
    const auto room = detail::gate_row(task.select.options, shared_floats, warp);
    detail::select_row<kPer>(task.select, r, room);
  }
  __syncthreads();
  const std::int64_t floats = warps * detail::gate_row_floats(task.select.options);
  detail::group_in_block(task.group, reinterpret_cast<int*>(shared_floats + floats));
}

// Whether the one launch takes the task: whole fours everywhere, dense gates, a thread to a choice.
bool fits_one_launch(const ExpertRouteTask& task, unsigned threads) {
  constexpr std::size_t kSharedBytes = 200 * 1024;
  const auto four = [](const DeviceRows& rows) {
    return rows.stride % 4 == 0 && reinterpret_cast<std::uintptr_t>(rows.data) % 16 == 0;
  };
  const DeviceMatrix& gate = task.gate.weight;
  return task.norm.rows <= kRouteRowsMax && task.norm.width % 4 == 0 && four(task.norm.x) &&
         four(task.norm.add) && four(task.norm.y) &&
         gate.row_bytes == gate.inputs * static_cast<std::int64_t>(sizeof(float)) &&
         task.group.rows * task.group.topk <= static_cast<std::int64_t>(threads) &&
         room_of(task, threads).bytes <= kSharedBytes;
}

void check(const ExpertRouteTask& task) {
  detail::check_gate(task.select.options);
  const std::int64_t rows = task.norm.rows;
  PLEIAD_CHECK(rows == task.gate.rows && rows == task.select.rows && rows == task.group.rows);
  PLEIAD_CHECK(task.norm.x.dtype == device::DType::F32 && task.norm.row_index == nullptr);
  PLEIAD_CHECK(task.norm.keeps_x && task.norm.heads == 1);
  PLEIAD_CHECK(task.norm.y.data == task.gate.x.data && task.norm.y.stride == task.gate.x.stride);
  PLEIAD_CHECK(task.gate.logits == task.select.logits && task.select.ids == task.group.ids);
  const GateOptions& options = task.select.options;
  PLEIAD_CHECK(task.group.topk == options.topk + task.select.shared);
  PLEIAD_CHECK(task.group.experts == options.experts + task.select.shared);
}

}  // namespace

void route_to_experts(device::cuda::Stream& stream, const ExpertRouteTask& task) {
  check(task);
  if (task.norm.rows == 0) return;
  const unsigned threads = detail::norm_threads(task.norm.width);
  if (!fits_one_launch(task, threads)) {
    rms_norm(stream, task.norm);
    gate_logits(stream, task.gate);
    select_experts(stream, task.select);
    group_by_expert(stream, task.group);
    return;
  }
  const RouteRoom room = room_of(task, threads);
  const dim3 grid(
      detail::blocks_for(task.gate.weight.outputs, room.experts),
      static_cast<unsigned>(task.norm.rows)
  );
  detail::with_element(task.norm.y.dtype, [&](auto element) {
    detail::with_experts_per_lane(task.select.options.experts, [&](auto per) {
      const auto kernel = route_rows<decltype(element), per.value>;
      detail::launch(stream, kernel, grid, threads, room.bytes, task, room.experts);
    });
  });
  stream.launched("route_to_experts", task.norm.rows, task.gate.weight.outputs);
}

}  // namespace pleiad::kernels::cuda
