#include <cuda_fp16.h>

#include "kernels/cuda/detail/four.cuh"
#include "kernels/cuda/detail/launch.cuh"
#include "kernels/cuda/row_ops.h"

// All of these move bytes and little else: a row is read and written once, and 4.3 TB/s is the
// roof.
namespace pleiad::kernels::cuda {
namespace {

using detail::BF16;
using detail::blocks_for;
using detail::to_float;
using device::DType;

constexpr unsigned kThreads = 256;

__device__ float table_element(const void* table, DType dtype, std::int64_t index) {
  if (dtype == DType::F32) return static_cast<const float*>(table)[index];
  if (dtype == DType::BF16) return to_float(static_cast<const BF16*>(table)[index]);
  return __half2float(static_cast<const __half*>(table)[index]);
}

// A block per row.
__global__ void embed(const EmbedTask task) {
  detail::let_next_begin();
  detail::wait_for_earlier_work();
  const std::int64_t row = blockIdx.x;
  const std::int64_t line = task.ids[row];
  for (std::int64_t i = threadIdx.x; i < task.width; i += blockDim.x) {
    task.y[row * task.width + i] =
        table_element(task.table, task.table_dtype, line * task.width + i);
  }
}

// A block per head of a row. The sum of squares: each thread a chain over every blockDim-th four
// elements, then block_sum.
template <typename X, typename Y, bool kWhole>
__global__ void normalise(const RmsNormTask task) {
  __shared__ float shared[detail::kWarp];
  detail::let_next_begin();
  detail::wait_for_earlier_work();
  const std::int64_t row = blockIdx.x / task.heads;
  const std::int64_t head = blockIdx.x % task.heads * task.width;
  const std::int64_t line = task.row_index == nullptr ? row : task.row_index[row];
  X* x = static_cast<X*>(task.x.data) + line * task.x.stride + head;
  const Y* add = static_cast<const Y*>(task.add.data);
  Y* y = static_cast<Y*>(task.y.data) + row * task.y.stride + head;
  const std::int64_t first = std::int64_t{threadIdx.x} * 4;
  const std::int64_t step = std::int64_t{blockDim.x} * 4;
  const bool stores = add != nullptr && !task.keeps_x;
  const auto at = [&](std::int64_t i) {
    const std::int64_t left = task.width - i;
    const float4 value = detail::load<kWhole>(x + i, left);
    if (add == nullptr) return value;
    return detail::plus(value, detail::load<kWhole>(add + row * task.add.stride + i, left));
  };
  float sum = 0.0F;
  for (std::int64_t i = first; i < task.width; i += step) {
    const float4 value = at(i);
    if (stores) detail::store<kWhole>(x + i, value, task.width - i);
    sum = detail::add_four(value, value, sum);
  }
  sum = detail::block_sum(sum, shared);
  const float factor = 1.0F / sqrtf(sum / static_cast<float>(task.width) + task.epsilon);
  for (std::int64_t i = first; i < task.width; i += step) {
    const std::int64_t left = task.width - i;
    const float4 value = stores ? detail::load<kWhole>(x + i, left) : at(i);
    const float4 weight = detail::load<kWhole>(task.weight + i, left);
    detail::store<kWhole>(y + i, detail::scaled(value, factor, weight), left);
  }
}

// Whether every row can be taken in whole fours.
bool is_whole(const RmsNormTask& task) {
  const auto fits = [](const DeviceRows& rows) {
    const auto four = 4 * device::size_of(rows.dtype);
    return rows.stride % 4 == 0 && reinterpret_cast<std::uintptr_t>(rows.data) % four == 0;
  };
  return task.width % 4 == 0 && fits(task.x) && fits(task.y) &&
         (task.add.data == nullptr || fits(task.add));
}

__device__ float activate(float gate, float up, float limit) {
  if (limit <= 0.0F) return gate / (1.0F + expf(-gate)) * up;
  const float g = fminf(gate, limit);
  const float u = fminf(fmaxf(up, -limit), limit);
  return g / (1.0F + expf(-1.702F * g)) * (u + 1.0F);
}

template <typename X, typename Y>
__global__ void swiglu_rows(const SwigluTask task) {
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= task.rows * task.width) return;
  const std::int64_t row = index / task.width;
  const std::int64_t column = index % task.width;
  const X* x = static_cast<const X*>(task.gate_up.data) + row * task.gate_up.stride;
  Y* y = static_cast<Y*>(task.y.data) + row * task.y.stride;
  const float value = activate(to_float(x[column]), to_float(x[task.width + column]), task.limit);
  y[column] = detail::from_float<Y>(value);
}

template <typename X>
__global__ void add(const AddRowsTask task) {
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= task.rows * task.width) return;
  const std::int64_t row = index / task.width;
  const std::int64_t column = index % task.width;
  const X* x = static_cast<const X*>(task.x.data) + row * task.x.stride;
  task.sum[index] += to_float(x[column]);
}

// body(X{}, Y{}) for the types of an op's input and output.
template <typename Body>
void with_elements(DType x, DType y, Body&& body) {
  if (x == DType::BF16) {
    PLEIAD_CHECK(y == DType::BF16);
    body(BF16{}, BF16{});
  } else {
    detail::with_element(y, [&](auto element) { body(float{}, element); });
  }
}

}  // namespace

void embed_rows(device::cuda::Stream& stream, const EmbedTask& task) {
  if (task.rows == 0) return;
  detail::launch(stream, embed, dim3(static_cast<unsigned>(task.rows)), kThreads, 0, task);
  stream.launched("embed_rows", task.rows, task.width);
}

void rms_norm(device::cuda::Stream& stream, const RmsNormTask& task) {
  if (task.rows == 0) return;
  const bool adds = task.add.data != nullptr;
  const bool fits = task.x.dtype == DType::F32 && task.heads == 1 && task.row_index == nullptr &&
                    task.add.dtype == task.y.dtype;
  PLEIAD_CHECK(!adds || fits);
  const dim3 blocks(static_cast<unsigned>(task.rows * task.heads));
  const unsigned threads = detail::norm_threads(task.width);
  with_elements(task.x.dtype, task.y.dtype, [&](auto x, auto y) {
    using X = decltype(x);
    using Y = decltype(y);
    const auto kernel = is_whole(task) ? normalise<X, Y, true> : normalise<X, Y, false>;
    detail::launch(stream, kernel, blocks, threads, 0, task);
  });
  stream.launched("rms_norm", task.rows, task.heads * task.width);
}

void swiglu(device::cuda::Stream& stream, const SwigluTask& task) {
  if (task.rows == 0) return;
  with_elements(task.gate_up.dtype, task.y.dtype, [&](auto x, auto y) {
    swiglu_rows<decltype(x), decltype(y)>
        <<<blocks_for(task.rows * task.width, kThreads), kThreads, 0, stream.handle()>>>(task);
  });
  stream.launched("swiglu", task.rows, task.width);
}

void add_rows(device::cuda::Stream& stream, const AddRowsTask& task) {
  if (task.rows == 0) return;
  detail::with_element(task.x.dtype, [&](auto element) {
    add<decltype(element)>
        <<<blocks_for(task.rows * task.width, kThreads), kThreads, 0, stream.handle()>>>(task);
  });
  stream.launched("add_rows", task.rows, task.width);
}

}  // namespace pleiad::kernels::cuda
