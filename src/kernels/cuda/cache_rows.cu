#include "base/check.h"
#include "kernels/cuda/cache_rows.h"
#include "kernels/cuda/detail/four.cuh"
#include "kernels/cuda/detail/launch.cuh"

namespace pleiad::kernels::cuda {
namespace {

using detail::to_float;

constexpr int kLanes = 32;
constexpr int kHeadWarps = 8;  // heads of a block
constexpr unsigned kLatentThreads = 128;

// The line of the cache that belongs to a row's token.
template <typename T>
__device__ T* line_of(
    const RowPlaces& places,
    const AttentionPages& pages,
    std::int64_t row,
    std::int64_t position
) {
  const std::uint32_t page = places.tables[places.table_of[row] + position / kPageTokens];
  T* first = reinterpret_cast<T*>(pages.base + page * pages.page_stride);
  return first + position % kPageTokens * pages.line;
}

// Turns pair `pair` of `head`, floats that hold elements of T, and writes both to y.
template <typename T>
__device__ void
turn_pair(const Rotation& rotation, std::int64_t position, int pair, const float* head, T* y) {
  const auto half = static_cast<int>(rotation.width / 2);
  const bool interleaved = rotation.pairs == RopePairs::Interleaved;
  const int first = interleaved ? 2 * pair : pair;
  const int second = interleaved ? 2 * pair + 1 : pair + half;
  const float* angles = rotation.cos_sin + position * rotation.width;
  const float c = angles[pair];
  const float s = angles[half + pair];
  const float a = head[first];
  const float b = head[second];
  y[first] = detail::from_float<T>(a * c - b * s);
  y[second] = detail::from_float<T>(b * c + a * s);
}

// Reads a head into `head`, normalised when there is a weight. A warp.
template <typename T>
__device__ void
read_head(const T* x, std::int64_t width, const float* weight, float epsilon, float* head) {
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  float sum = 0.0F;
  for (std::int64_t i = lane * 4; i < width; i += kLanes * 4) {
    const float4 four = detail::load_some(x + i, width - i);
    detail::store_some(head + i, four, width - i);
    sum = detail::add_four(four, four, sum);
  }
  __syncwarp();
  if (weight == nullptr) return;
  sum = detail::warp_sum(sum);
  const float factor = 1.0F / sqrtf(sum / static_cast<float>(width) + epsilon);
  for (std::int64_t i = lane; i < width; i += kLanes) {
    head[i] = detail::rounded_to<T>(head[i] * factor * weight[i]);
  }
  __syncwarp();
}

// Where a head goes, and what happens on the way.
template <typename T>
struct HeadPath {
  const T* from = nullptr;
  T* to = nullptr;
  const float* norm = nullptr;
  bool turns = false;
};

template <typename T>
__device__ HeadPath<T>
path_of(const GroupedRowsTask& task, std::int64_t row, std::int64_t position, std::int64_t head) {
  T* x = static_cast<T*>(task.qkv.data) + row * task.qkv.stride + head * task.width;
  if (head < task.heads) return {.from = x, .to = x, .norm = task.q_norm, .turns = true};
  T* line = line_of<T>(task.places, task.pages, row, position);
  const std::int64_t kv = head - task.heads;
  if (kv < task.kv_heads) {
    T* key = line + task.pages.keys.offset + kv * task.width;
    return {.from = x, .to = key, .norm = task.k_norm, .turns = true};
  }
  T* value = line + task.pages.values.offset + (kv - task.kv_heads) * task.width;
  return {.from = x, .to = value};
}

// A warp to a head.
template <typename T>
__global__ void __launch_bounds__(kHeadWarps* kLanes) cache_grouped(const GroupedRowsTask task) {
  extern __shared__ float heads[];  // [kHeadWarps, width]
  detail::let_next_begin();
  detail::wait_for_earlier_work();
  const std::int64_t row = blockIdx.x;
  const std::int64_t position = task.places.positions[row];
  const int warp = static_cast<int>(threadIdx.x) / kLanes;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const std::int64_t head = static_cast<std::int64_t>(blockIdx.y) * kHeadWarps + warp;
  if (position < 0 || head >= task.heads + 2 * task.kv_heads) return;
  const HeadPath<T> path = path_of<T>(task, row, position, head);
  float* values = heads + warp * task.width;
  read_head(path.from, task.width, path.norm, task.epsilon, values);
  const int turned = path.turns ? static_cast<int>(task.rotation.width) : 0;
  for (int pair = lane; pair < turned / 2; pair += kLanes) {
    turn_pair(task.rotation, position, pair, values, path.to);
  }
  for (int i = turned + lane; i < static_cast<int>(task.width); i += kLanes) {
    path.to[i] = detail::from_float<T>(values[i]);
  }
}

// A block to a row.
template <typename T>
__global__ void __launch_bounds__(kLatentThreads) cache_latent(const LatentRowsTask task) {
  extern __shared__ float values[];  // [width + rotation.width]
  __shared__ float sums[detail::kWarp];
  detail::let_next_begin();
  detail::wait_for_earlier_work();
  const std::int64_t row = blockIdx.x;
  const std::int64_t position = task.places.positions[row];
  if (position < 0) return;
  const T* x = static_cast<const T*>(task.latent.data) + row * task.latent.stride;
  const std::int64_t whole = task.width + task.rotation.width;
  float sum = 0.0F;
  for (std::int64_t i = threadIdx.x; i < whole; i += kLatentThreads) {
    const float value = to_float(x[i]);
    values[i] = value;
    if (i < task.width) sum = fmaf(value, value, sum);
  }
  sum = detail::block_sum(sum, sums);
  __syncthreads();
  const float factor = 1.0F / sqrtf(sum / static_cast<float>(task.width) + task.epsilon);
  T* line = line_of<T>(task.places, task.pages, row, position);
  for (std::int64_t i = threadIdx.x; i < task.width; i += kLatentThreads) {
    line[i] = detail::from_float<T>(values[i] * factor * task.norm[i]);
  }
  const auto pairs = static_cast<int>(task.rotation.width / 2);
  for (int pair = static_cast<int>(threadIdx.x); pair < pairs; pair += kLatentThreads) {
    turn_pair(task.rotation, position, pair, values + task.width, line + task.width);
  }
}

}  // namespace

void cache_grouped_rows(device::cuda::Stream& stream, const GroupedRowsTask& task) {
  PLEIAD_CHECK(task.width % 2 == 0 && task.width <= kHeadWidthMax);
  PLEIAD_CHECK(task.rotation.width % 2 == 0 && task.rotation.width <= task.width);
  PLEIAD_CHECK(task.qkv.dtype == task.pages.dtype);
  PLEIAD_CHECK((task.q_norm == nullptr) == (task.k_norm == nullptr));
  if (task.rows == 0) return;
  const std::int64_t heads = task.heads + 2 * task.kv_heads;
  const dim3 grid(static_cast<unsigned>(task.rows), detail::blocks_for(heads, kHeadWarps));
  const auto shared = static_cast<std::size_t>(kHeadWarps * task.width) * sizeof(float);
  detail::with_element(task.qkv.dtype, [&](auto element) {
    detail::launch(
        stream, cache_grouped<decltype(element)>, grid, kHeadWarps * kLanes, shared, task
    );
  });
  stream.launched("cache_grouped_rows", task.rows, heads * task.width);
}

void cache_latent_rows(device::cuda::Stream& stream, const LatentRowsTask& task) {
  PLEIAD_CHECK(task.width <= kLatentWidthMax && task.rotation.width % 2 == 0);
  PLEIAD_CHECK(task.pages.line == task.width + task.rotation.width);
  PLEIAD_CHECK(task.latent.dtype == task.pages.dtype);
  if (task.rows == 0) return;
  const dim3 grid(static_cast<unsigned>(task.rows));
  const auto shared = static_cast<std::size_t>(task.pages.line) * sizeof(float);
  detail::with_element(task.latent.dtype, [&](auto element) {
    detail::launch(stream, cache_latent<decltype(element)>, grid, kLatentThreads, shared, task);
  });
  stream.launched("cache_latent_rows", task.rows, task.pages.line);
}

}  // namespace pleiad::kernels::cuda
