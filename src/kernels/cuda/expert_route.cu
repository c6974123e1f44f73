#include <algorithm>

#include "base/check.h"
#include "kernels/cuda/detail/four.cuh"
#include "kernels/cuda/detail/gate_chains.cuh"
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

constexpr int kGateBytes = 64 * 1024;  // of the gate's weights in a block, about, if floats
constexpr int kThreadsMax = 256;       // detail::norm_threads()' most

// How a block multiplies with its part of the gate: a warp to an expert of float weights, or to
// chains of a tile of experts on the tensor cores.
struct FloatGate {
  using Weight = float;
  static constexpr int kPadding = 0;
  static int experts(std::int64_t inputs, int warps) {
    const auto line = static_cast<int>(inputs) * static_cast<int>(sizeof(float));
    return std::clamp(kGateBytes / line, 1, warps);
  }
};

struct TensorGate {
  using Weight = detail::BF16;
  static constexpr int kPadding = 32;  // elements behind a line: neighbours in other banks
  static int experts(std::int64_t, int) { return detail::kGateTileExperts; }
};

// A block's shared memory: its part of the gate, the norm's weights, the row before and after its
// norm, sums of chains; or, once the logits are there, what choosing and grouping needs.
template <typename Gate, typename T>
struct RouteRoom {
  typename Gate::Weight* gate;  // [experts, inputs + padding]
  float* norm;
  float* row;
  T* normalised;
  float* sums;  // [chains, experts]

  __device__ RouteRoom(float* shared, int experts, int inputs)
      : gate(reinterpret_cast<typename Gate::Weight*>(shared)),
        norm(reinterpret_cast<float*>(gate + experts * (inputs + Gate::kPadding))),
        row(norm + inputs),
        normalised(reinterpret_cast<T*>(row + inputs)),
        sums(reinterpret_cast<float*>(normalised + inputs)) {}

  static std::size_t bytes(const ExpertRouteTask& task, unsigned threads) {
    const std::int64_t inputs = task.gate.weight.inputs;
    const auto warps = static_cast<int>(threads / 32);
    const int experts = Gate::experts(inputs, warps);
    const auto gate = static_cast<std::size_t>(experts * (inputs + Gate::kPadding)) *
                      sizeof(typename Gate::Weight);
    const auto rows = static_cast<std::size_t>(inputs) * (2 * sizeof(float) + sizeof(T));
    const std::size_t sums =
        detail::kGateChains * static_cast<std::size_t>(experts) * sizeof(float);
    const std::int64_t ints = detail::chunk_ints(task.group.experts, warps);
    const std::size_t choosing = detail::gate_rows_bytes(task.select.options, warps) +
                                 static_cast<std::size_t>(ints) * sizeof(int);
    return std::max(gate + rows + sums, choosing);
  }
};

// Starts copying `count` elements, a multiple of 16 bytes; a thread copies the floats that it reads
// in normalise_row().
template <typename T>
__device__ void fetch(const T* from, int count, T* into) {
  constexpr int kPer = 16 / static_cast<int>(sizeof(T));
  const std::uint32_t to = hopper::shared_address(into);
  for (int i = static_cast<int>(threadIdx.x) * kPer; i < count;
       i += static_cast<int>(blockDim.x) * kPer) {
    hopper::copy_async<16>(to + static_cast<std::uint32_t>(i) * sizeof(T), from + i);
  }
  hopper::copy_async_commit();
}

// Starts copying the gate's lines of this block.
template <typename Gate>
__device__ void fetch_gate(const DeviceMatrix& gate, int experts, typename Gate::Weight* into) {
  using Weight = typename Gate::Weight;
  const std::int64_t first = std::int64_t{blockIdx.x} * experts;
  const auto count = static_cast<int>(min(std::int64_t{experts}, gate.outputs - first));
  const auto inputs = static_cast<int>(gate.inputs);
  const auto* from = reinterpret_cast<const Weight*>(gate.codes) + first * inputs;
  for (int e = 0; e < count; ++e) {
    fetch(from + e * inputs, inputs, into + e * (inputs + Gate::kPadding));
  }
}

// The row's norm, as rms_norm() adds and rounds, into room.normalised, and by the first block out.
template <typename Room, typename T>
__device__ void normalise_row(const RmsNormTask& task, std::int64_t index, const Room& room, T* y) {
  __shared__ float sums[detail::kWarp];
  const float* x = static_cast<const float*>(task.x.data) + index * task.x.stride;
  const T* add = static_cast<const T*>(task.add.data) + index * task.add.stride;
  const int width = static_cast<int>(task.width);
  const int step = static_cast<int>(blockDim.x) * 4;
  float sum = 0.0F;
  for (int i = static_cast<int>(threadIdx.x) * 4; i < width; i += step) {
    float4 value = detail::load_four(x + i);
    if (task.add.data != nullptr) value = detail::plus(value, detail::load_four(add + i));
    detail::store_four(room.row + i, value);
    sum = detail::add_four(value, value, sum);
  }
  sum = detail::block_sum(sum, sums);
  const float factor = 1.0F / sqrtf(sum / static_cast<float>(width) + task.epsilon);
  for (int i = static_cast<int>(threadIdx.x) * 4; i < width; i += step) {
    const float4 weight = detail::load_four(room.norm + i);
    const float4 value = detail::scaled(detail::load_four(room.row + i), factor, weight);
    detail::store_four(room.normalised + i, value);
    if (blockIdx.x == 0) detail::store_four(y + i, value);
  }
}

__device__ inline void
store_logit(const GateLogitsTask& task, std::int64_t row, std::int64_t expert, float sum) {
  const float bias = task.bias == nullptr ? 0.0F : task.bias[expert];
  task.logits[row * task.weight.outputs + expert] = sum + bias;
}

// Logits of a row with this block's part of the gate, as gate_logits() adds.
template <typename T>
__device__ void multiply_row(
    const GateLogitsTask& task,
    std::int64_t row,
    int experts,
    const RouteRoom<FloatGate, T>& room
) {
  const int warps = static_cast<int>(blockDim.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int inputs = static_cast<int>(task.weight.inputs);
  for (int e = static_cast<int>(threadIdx.x) / 32; e < experts; e += warps) {
    const std::int64_t expert = std::int64_t{blockIdx.x} * experts + e;
    if (expert >= task.weight.outputs) return;
    const float* weight = room.gate + e * inputs;
    float sum = 0.0F;
#pragma unroll 4
    for (int i = lane * 4; i < inputs; i += 128) {
      sum = detail::add_four(
          detail::load_four(room.normalised + i), detail::load_four(weight + i), sum
      );
    }
    sum = detail::warp_sum(sum);
    if (lane == 0) store_logit(task, row, expert, sum);
  }
}

// The tile's 16 rows are all this one; what a block has no experts for is never stored.
template <typename T>
__device__ void multiply_row(
    const GateLogitsTask& task,
    std::int64_t row,
    int experts,
    const RouteRoom<TensorGate, T>& room
) {
  const int warps = static_cast<int>(blockDim.x) / 32;
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % 32;
  const int inputs = static_cast<int>(task.weight.inputs);
  const T* x = room.normalised + detail::gate_lane_input();
  const detail::GateLines<1, 1> lines{
      .rows = {{x, x}},
      .experts = {
          room.gate + lane / 4 * (inputs + TensorGate::kPadding) + detail::gate_lane_input()}};
  for (int chain = thread / 32; chain < detail::kGateChains; chain += warps) {
    float sums[1][1][4] = {};
    detail::multiply_chain(lines, chain, inputs, sums);
    if (lane >= 4) continue;
    room.sums[chain * experts + lane * 2] = sums[0][0][0];
    room.sums[chain * experts + lane * 2 + 1] = sums[0][0][1];
  }
  __syncthreads();
  const std::int64_t expert = std::int64_t{blockIdx.x} * experts + thread;
  if (thread >= experts || expert >= task.weight.outputs) return;
  store_logit(task, row, expert, detail::sum_of_chains(room.sums + thread, experts));
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

template <typename Gate, typename T, int kPer>
__global__ void __launch_bounds__(kThreadsMax)
    route_rows(const ExpertRouteTask task, const int experts) {
  extern __shared__ __align__(16) float shared_floats[];
  detail::let_next_begin();
  const int inputs = static_cast<int>(task.gate.weight.inputs);
  const RouteRoom<Gate, T> room(shared_floats, experts, inputs);
  fetch_gate<Gate>(task.gate.weight, experts, room.gate);
  fetch(task.norm.weight, inputs, room.norm);
  detail::wait_for_earlier_work();
  const std::int64_t row = blockIdx.y;
  hopper::copy_async_wait<0>();
  normalise_row(task.norm, row, room, static_cast<T*>(task.norm.y.data) + row * task.norm.y.stride);
  __syncthreads();
  multiply_row(task.gate, row, experts, room);
  if (!arrives_last(task.arrivals)) return;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int warps = static_cast<int>(blockDim.x) / 32;
  for (int r = warp; r < static_cast<int>(task.select.rows); r += warps) {
    const auto choosing = detail::gate_row(task.select.options, shared_floats, warp);
    detail::select_row<kPer>(task.select, r, choosing);
  }
  __syncthreads();
  const std::int64_t floats = warps * detail::gate_row_floats(task.select.options);
  detail::group_in_block(task.group, reinterpret_cast<int*>(shared_floats + floats));
}

// Whether rows and gate can be taken in whole fours, gates of dense lines.
bool is_whole(const ExpertRouteTask& task) {
  const auto four = [](const DeviceRows& rows) {
    return rows.stride % 4 == 0 && reinterpret_cast<std::uintptr_t>(rows.data) % 16 == 0;
  };
  const DeviceMatrix& gate = task.gate.weight;
  const std::int64_t line = gate.inputs * (gate.compute == Compute::BFloat16 ? 2 : 4);
  return task.norm.width % 4 == 0 && four(task.norm.x) && four(task.norm.add) &&
         four(task.norm.y) && gate.row_bytes == line;
}

// Launches the one kernel if it takes the task: few rows, a thread to a choice, a block's memory.
template <typename Gate, typename T>
bool launch_together(device::cuda::Stream& stream, const ExpertRouteTask& task) {
  constexpr std::size_t kSharedBytes = 200 * 1024;
  const unsigned threads = detail::norm_threads(task.norm.width);
  const std::size_t bytes = RouteRoom<Gate, T>::bytes(task, threads);
  const std::int64_t rows = task.norm.rows;
  const bool fits = rows <= kRouteRowsMax && is_whole(task) && bytes <= kSharedBytes &&
                    rows * task.group.topk <= static_cast<std::int64_t>(threads);
  if (!fits) return false;
  const int experts = Gate::experts(task.gate.weight.inputs, static_cast<int>(threads / 32));
  const dim3 grid(
      detail::blocks_for(task.gate.weight.outputs, experts), static_cast<unsigned>(rows)
  );
  detail::with_experts_per_lane(task.select.options.experts, [&](auto per) {
    const auto kernel = route_rows<Gate, T, per.value>;
    detail::launch(stream, kernel, grid, threads, bytes, task, experts);
  });
  return true;
}

bool launch_together(device::cuda::Stream& stream, const ExpertRouteTask& task) {
  if (task.gate.weight.compute == Compute::BFloat16) {
    return launch_together<TensorGate, detail::BF16>(stream, task);
  }
  bool launched = false;
  detail::with_element(task.norm.y.dtype, [&](auto element) {
    launched = launch_together<FloatGate, decltype(element)>(stream, task);
  });
  return launched;
}

void check(const ExpertRouteTask& task) {
  detail::check_gate(task.select.options);
  const std::int64_t rows = task.norm.rows;
  PLEIAD_CHECK(rows == task.gate.rows && rows == task.select.rows && rows == task.group.rows);
  PLEIAD_CHECK(task.norm.x.dtype == device::DType::F32 && task.norm.row_index == nullptr);
  PLEIAD_CHECK(task.norm.keeps_x && task.norm.heads == 1);
  PLEIAD_CHECK(task.norm.y.data == task.gate.x.data && task.norm.y.stride == task.gate.x.stride);
  const bool tensor = task.gate.weight.compute == Compute::BFloat16;
  PLEIAD_CHECK(!tensor || gate_takes_bfloat16(task.gate.weight.inputs));
  PLEIAD_CHECK(!tensor || task.gate.x.dtype == device::DType::BF16);
  PLEIAD_CHECK(task.gate.logits == task.select.logits && task.select.ids == task.group.ids);
  const GateOptions& options = task.select.options;
  PLEIAD_CHECK(task.group.topk == options.topk + task.select.shared);
  PLEIAD_CHECK(task.group.experts == options.experts + task.select.shared);
}

}  // namespace

void route_to_experts(device::cuda::Stream& stream, const ExpertRouteTask& task) {
  check(task);
  if (task.norm.rows == 0) return;
  if (!launch_together(stream, task)) {
    rms_norm(stream, task.norm);
    gate_logits(stream, task.gate);
    select_experts(stream, task.select);
    group_by_expert(stream, task.group);
  }
  stream.launched("route_to_experts", task.norm.rows, task.gate.weight.outputs);
}

}  // namespace pleiad::kernels::cuda
