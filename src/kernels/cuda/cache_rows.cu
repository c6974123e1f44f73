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
constexpr int kQueryHeads = 16;  // of a block

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

// The two elements of pair `pair` turned.
__device__ float2
turned_pair(const Rotation& rotation, std::int64_t position, int pair, float a, float b) {
  const float* angles = rotation.cos_sin + position * rotation.width;
  const float c = angles[pair];
  const float s = angles[rotation.width / 2 + pair];
  return {a * c - b * s, b * c + a * s};
}

// Where the elements of a pair are in a head.
struct PairPlace {
  int first = 0;
  int second = 0;
};

__device__ PairPlace place_of(const Rotation& rotation, int pair) {
  const auto half = static_cast<int>(rotation.width / 2);
  const bool interleaved = rotation.pairs == RopePairs::Interleaved;
  return {
      .first = interleaved ? 2 * pair : pair,
      .second = interleaved ? 2 * pair + 1 : pair + half,
  };
}

// Turns a head, floats that hold elements of T, and writes it to y; what does not turn as it is. A
// warp.
template <typename T>
__device__ void
turn_head(const Rotation& rotation, std::int64_t position, const float* head, int width, T* y) {
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const auto turned = static_cast<int>(rotation.width);
  for (int pair = lane; pair < turned / 2; pair += kLanes) {
    const PairPlace at = place_of(rotation, pair);
    const float2 pair_of = turned_pair(rotation, position, pair, head[at.first], head[at.second]);
    y[at.first] = detail::from_float<T>(pair_of.x);
    y[at.second] = detail::from_float<T>(pair_of.y);
  }
  for (int i = turned + lane; i < width; i += kLanes) {
    y[i] = detail::from_float<T>(head[i]);
  }
}

// Four neighbours of a head turned, from `i` on.
__device__ float4
turned_four(const Rotation& rotation, std::int64_t position, const float* head, int i) {
  const auto half = static_cast<int>(rotation.width / 2);
  const float* angles = rotation.cos_sin + position * rotation.width;
  const float4 mine = detail::load_four(head + i);
  if (rotation.pairs == RopePairs::Interleaved) {
    const float2 low = turned_pair(rotation, position, i / 2, mine.x, mine.y);
    const float2 high = turned_pair(rotation, position, i / 2 + 1, mine.z, mine.w);
    return {low.x, low.y, high.x, high.y};
  }
  const bool is_first = i < half;
  const int pair = is_first ? i : i - half;
  const float4 c = detail::load_four(angles + pair);
  const float4 s = detail::load_four(angles + half + pair);
  const float4 other = detail::load_four(head + (is_first ? i + half : pair));
  if (is_first) {
    return {
        mine.x * c.x - other.x * s.x,
        mine.y * c.y - other.y * s.y,
        mine.z * c.z - other.z * s.z,
        mine.w * c.w - other.w * s.w,
    };
  }
  return {
      mine.x * c.x + other.x * s.x,
      mine.y * c.y + other.y * s.y,
      mine.z * c.z + other.z * s.z,
      mine.w * c.w + other.w * s.w,
  };
}

// turn_head() in whole fours.
template <typename T>
__device__ void turn_head_by_fours(
    const Rotation& rotation,
    std::int64_t position,
    const float* head,
    int width,
    T* y
) {
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  for (int i = lane * 4; i < width; i += kLanes * 4) {
    const bool turns = i < static_cast<int>(rotation.width);
    const float4 four =
        turns ? turned_four(rotation, position, head, i) : detail::load_four(head + i);
    detail::store_four(y + i, four);
  }
}

// Reads a head into `head`, normalised when there is a weight. A warp.
template <typename T, bool kWhole>
__device__ void
read_head(const T* x, std::int64_t width, const float* weight, float epsilon, float* head) {
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  float sum = 0.0F;
  for (std::int64_t i = lane * 4; i < width; i += kLanes * 4) {
    const float4 four = detail::load<kWhole>(x + i, width - i);
    detail::store<kWhole>(head + i, four, width - i);
    sum = detail::add_four(four, four, sum);
  }
  __syncwarp();
  if (weight == nullptr) return;
  sum = detail::warp_sum(sum);
  const float factor = 1.0F / sqrtf(sum / static_cast<float>(width) + epsilon);
  for (std::int64_t i = lane * 4; i < width; i += kLanes * 4) {
    const float4 four = detail::scaled(
        detail::load<kWhole>(head + i, width - i),
        factor,
        detail::load<kWhole>(weight + i, width - i)
    );
    detail::store<kWhole>(head + i, detail::rounded_four<T>(four), width - i);
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
template <typename T, bool kWhole>
__global__ void __launch_bounds__(kHeadWarps* kLanes) cache_grouped(const GroupedRowsTask task) {
  extern __shared__ __align__(16) float heads[];  // [kHeadWarps, width]
  detail::let_next_begin();
  detail::wait_for_earlier_work();
  const std::int64_t row = blockIdx.x;
  const std::int64_t position = task.places.positions[row];
  const int warp = static_cast<int>(threadIdx.x) / kLanes;
  const std::int64_t head = static_cast<std::int64_t>(blockIdx.y) * kHeadWarps + warp;
  if (position < 0 || head >= task.heads + 2 * task.kv_heads) return;
  const HeadPath<T> path = path_of<T>(task, row, position, head);
  float* values = heads + warp * task.width;
  read_head<T, kWhole>(path.from, task.width, path.norm, task.epsilon, values);
  Rotation rotation = task.rotation;
  if (!path.turns) rotation.width = 0;
  const auto width = static_cast<int>(task.width);
  if constexpr (kWhole) {
    turn_head_by_fours(rotation, position, values, width, path.to);
  } else {
    turn_head(rotation, position, values, width, path.to);
  }
}

// A block: the latent and the key's part of a row.
template <typename T>
__device__ void cache_latent(const LatentRowsTask& task, std::int64_t row, std::int64_t position) {
  extern __shared__ __align__(16) float values[];  // [width + rotation.width]
  __shared__ float sums[detail::kWarp];
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
  if (threadIdx.x >= kLanes) return;
  const auto width = static_cast<int>(task.rotation.width);
  turn_head(task.rotation, position, values + task.width, width, line + task.width);
}

// A warp: the rotary part of a head of queries, in place.
template <typename T>
__device__ void turn_query(const Rotation& rotation, std::int64_t position, T* head) {
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  for (int pair = lane; pair < static_cast<int>(rotation.width / 2); pair += kLanes) {
    const PairPlace at = place_of(rotation, pair);
    const float2 turned =
        turned_pair(rotation, position, pair, to_float(head[at.first]), to_float(head[at.second]));
    head[at.first] = detail::from_float<T>(turned.x);
    head[at.second] = detail::from_float<T>(turned.y);
  }
}

// The first block of a row takes the latent, the others kQueryHeads heads of queries each.
template <typename T>
__global__ void __launch_bounds__(kLatentThreads) cache_latent_row(const LatentRowsTask task) {
  detail::let_next_begin();
  detail::wait_for_earlier_work();
  const std::int64_t row = blockIdx.x;
  const std::int64_t position = task.places.positions[row];
  if (position < 0) return;
  if (blockIdx.y == 0) {
    cache_latent<T>(task, row, position);
    return;
  }
  T* queries = static_cast<T*>(task.queries.data) + row * task.queries.stride;
  const auto first = static_cast<std::int64_t>(blockIdx.y - 1) * kQueryHeads;
  const std::int64_t end = min(first + kQueryHeads, task.heads);
  for (std::int64_t head = first + threadIdx.x / kLanes; head < end;
       head += kLatentThreads / kLanes) {
    turn_query(task.rotation, position, queries + head * task.head_stride);
  }
}

// Whether heads and lines can be taken in whole fours.
bool is_whole(const GroupedRowsTask& task) {
  const auto four = 4 * device::size_of(task.qkv.dtype);
  const auto fits = [&](const void* at) {
    return reinterpret_cast<std::uintptr_t>(at) % four == 0;
  };
  return task.width % 4 == 0 && task.rotation.width % 8 == 0 && task.qkv.stride % 4 == 0 &&
         task.pages.line % 4 == 0 && task.pages.keys.offset % 4 == 0 &&
         task.pages.values.offset % 4 == 0 && task.pages.page_stride % four == 0 &&
         fits(task.qkv.data) && fits(task.pages.base);
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
    using T = decltype(element);
    const auto kernel = is_whole(task) ? cache_grouped<T, true> : cache_grouped<T, false>;
    detail::launch(stream, kernel, grid, kHeadWarps * kLanes, shared, task);
  });
  stream.launched("cache_grouped_rows", task.rows, heads * task.width);
}

void cache_latent_rows(device::cuda::Stream& stream, const LatentRowsTask& task) {
  PLEIAD_CHECK(task.width <= kLatentWidthMax && task.rotation.width % 2 == 0);
  PLEIAD_CHECK(task.pages.line == task.width + task.rotation.width);
  PLEIAD_CHECK(task.latent.dtype == task.pages.dtype);
  PLEIAD_CHECK(task.heads == 0 || task.queries.dtype == task.latent.dtype);
  if (task.rows == 0) return;
  const dim3 grid(
      static_cast<unsigned>(task.rows), 1 + detail::blocks_for(task.heads, kQueryHeads)
  );
  const auto shared = static_cast<std::size_t>(task.pages.line) * sizeof(float);
  detail::with_element(task.latent.dtype, [&](auto element) {
    detail::launch(stream, cache_latent_row<decltype(element)>, grid, kLatentThreads, shared, task);
  });
  stream.launched("cache_latent_rows", task.rows, task.pages.line);
}

}  // namespace pleiad::kernels::cuda
