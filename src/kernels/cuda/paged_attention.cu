#include "base/check.h"
#include "kernels/cuda/detail/device_math.cuh"
#include "kernels/cuda/detail/fast_attention.h"
#include "kernels/cuda/detail/tensor_map.h"
#include "kernels/cuda/paged_attention.h"

// A block takes one row, up to kHeads query heads that share a key head, and one stretch of the
// row's pages (or all of them in turn). Four warps score a page's tokens, a token at a time; then
// threads own columns of the values. Keys and values are read once per block.
namespace pleiad::kernels::cuda {
namespace {

using detail::BF16;
using detail::kAllLanes;
using detail::to_float;

constexpr int kHeads = 8;
constexpr int kThreads = 128;
constexpr int kLanes = 32;
constexpr int kWarps = kThreads / kLanes;
constexpr int kTokens = static_cast<int>(kPageTokens);
constexpr float kNever = -INFINITY;

// The tokens and pages of one row's stretch.
struct Stretch {
  std::int64_t first = 0;  // tokens, both included; none when last < first
  std::int64_t last = -1;
};

__device__ Stretch
stretch_of(std::int64_t position, std::int64_t window, std::int64_t splits_max, int split) {
  const std::int64_t length = pages_per_split(position, splits_max) * kPageTokens;
  const std::int64_t seen = window > 0 && position + 1 > window ? position + 1 - window : 0;
  const std::int64_t begin = split * length;
  const std::int64_t end = begin + length - 1;
  return {.first = begin > seen ? begin : seen, .last = end < position ? end : position};
}

__device__ int splits_of(std::int64_t position, std::int64_t splits_max) {
  const std::int64_t length = pages_per_split(position, splits_max) * kPageTokens;
  return static_cast<int>(position / length + 1);
}

// What a block shares.
struct Shared {
  float scores[kHeads][kTokens];  // of a page, then their exponentials
  float top[kHeads];              // running maximum of the stretch
  float mass[kHeads];             // sum of exponentials
  float factor[kHeads];           // what the sums so far are multiplied by
};

// Sums of values of one stretch or of several: thread t owns columns t, t + kThreads, ...
template <int kColumns>
struct Sums {
  float values[kHeads][kColumns];
};

// The heads of a block.
struct Heads {
  std::int64_t first = 0;
  int count = 0;
  std::int64_t kv = 0;
};

__device__ Heads heads_of(const PagedAttentionTask& task) {
  const std::int64_t group = task.heads / task.pages.kv_heads;
  const std::int64_t chunks = (group + kHeads - 1) / kHeads;
  const std::int64_t kv = blockIdx.y / chunks;
  const std::int64_t offset = blockIdx.y % chunks * kHeads;
  const std::int64_t left = group - offset;
  return {
      .first = kv * group + offset,
      .count = static_cast<int>(left < kHeads ? left : kHeads),
      .kv = kv,
  };
}

// Queries as floats, [kHeads][key width], zeros for heads there are not.
template <typename T>
__device__ void
load_queries(const PagedAttentionTask& task, std::int64_t row, const Heads& heads, float* query) {
  const auto width = static_cast<int>(task.pages.keys.width);
  for (int at = static_cast<int>(threadIdx.x); at < kHeads * width; at += kThreads) {
    const int head = at / width;
    const std::int64_t i = at % width;
    const bool low = i < task.query[0].width;
    const QueryHeads& part = low ? task.query[0] : task.query[1];
    const std::int64_t element = low ? i : i - task.query[0].width;
    float value = 0.0F;
    if (head < heads.count) {
      const T* x = static_cast<const T*>(part.rows.data) + row * part.rows.stride;
      value = to_float(x[(heads.first + head) * part.head_stride + element]);
    }
    query[at] = value;
  }
  __syncthreads();
}

template <typename T>
const __device__ T* page_of(const PagedAttentionTask& task, std::int64_t row, std::int64_t page) {
  const std::int64_t table = task.places.table_of[row];
  const std::uint32_t index = task.places.tables[table + page];
  return reinterpret_cast<const T*>(task.pages.base + index * task.pages.page_stride);
}

// Tokens that a warp scores together, so that their loads are under way at once.
constexpr int kTogether = 4;

// Sums eight values over a warp, each in the same fixed order; lane l gets that of value l / 4.
__device__ float sum_eight(float (&values)[kHeads], int lane) {
  for (int i = 0; i < 4; ++i) {
    const bool high = (lane & 16) != 0;
    const float give = high ? values[i] : values[i + 4];
    const float keep = high ? values[i + 4] : values[i];
    values[i] = keep + __shfl_xor_sync(kAllLanes, give, 16);
  }
  for (int i = 0; i < 2; ++i) {
    const bool high = (lane & 8) != 0;
    const float give = high ? values[i] : values[i + 2];
    const float keep = high ? values[i + 2] : values[i];
    values[i] = keep + __shfl_xor_sync(kAllLanes, give, 8);
  }
  const bool high = (lane & 4) != 0;
  const float give = high ? values[0] : values[1];
  const float keep = high ? values[1] : values[0];
  float sum = keep + __shfl_xor_sync(kAllLanes, give, 4);
  sum += __shfl_xor_sync(kAllLanes, sum, 2);
  sum += __shfl_xor_sync(kAllLanes, sum, 1);
  return sum;
}

// Scores of the page's tokens [first, last] into shared memory. A warp to kTogether tokens.
template <typename T>
__device__ void score_page(
    const PagedAttentionTask& task,
    const T* keys,
    const float* query,
    int first,
    int last,
    Shared& shared
) {
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const auto width = static_cast<int>(task.pages.keys.width);
  const int warp = static_cast<int>(threadIdx.x) / kLanes;
  for (int begin = first + warp * kTogether; begin <= last; begin += kWarps * kTogether) {
    const T* key[kTogether];
    for (int j = 0; j < kTogether; ++j) {
      // Past the last token the last one stands in; its sums go nowhere.
      key[j] = keys + (begin + j < last ? begin + j : last) * task.pages.line;
    }
    float dots[kTogether][kHeads] = {};
#pragma unroll 4
    for (int i = lane; i < width; i += kLanes) {
      float k[kTogether];
      for (int j = 0; j < kTogether; ++j) {
        k[j] = to_float(key[j][i]);
      }
      for (int h = 0; h < kHeads; ++h) {
        const float q = query[h * width + i];
        for (int j = 0; j < kTogether; ++j) {
          dots[j][h] = fmaf(q, k[j], dots[j][h]);
        }
      }
    }
    for (int j = 0; j < kTogether; ++j) {
      const float sum = sum_eight(dots[j], lane);
      if (lane % 4 == 0 && begin + j <= last) shared.scores[lane / 4][begin + j] = sum * task.scale;
    }
  }
}

// Exponentials of the page's scores, against the stretch's maximum so far. A warp to a head.
__device__ void weigh_page(int first, int last, Shared& shared) {
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  for (int head = static_cast<int>(threadIdx.x) / kLanes; head < kHeads; head += kWarps) {
    float* scores = shared.scores[head];
    float top = shared.top[head];
    const float before = top;
    for (int t = first + lane; t <= last; t += kLanes) {
      top = fmaxf(top, scores[t]);
    }
    top = detail::warp_max(top);
    float mass = 0.0F;
    for (int t = first + lane; t <= last; t += kLanes) {
      scores[t] = expf(scores[t] - top);
      mass += scores[t];
    }
    mass = detail::warp_sum(mass);
    __syncwarp();
    if (lane != 0) continue;
    const float factor = expf(before - top);
    shared.top[head] = top;
    shared.factor[head] = factor;
    shared.mass[head] = fmaf(shared.mass[head], factor, mass);
  }
}

template <typename T, int kColumns>
__device__ void add_values(
    const PagedAttentionTask& task,
    const T* values,
    int first,
    int last,
    const Shared& shared,
    Sums<kColumns>& sums
) {
  const auto width = static_cast<int>(task.pages.values.width);
  for (int h = 0; h < kHeads; ++h) {
    const float factor = shared.factor[h];
    for (int j = 0; j < kColumns; ++j) {
      sums.values[h][j] *= factor;
    }
  }
#pragma unroll 8
  for (int t = first; t <= last; ++t) {
    const T* line = values + t * task.pages.line;
    float v[kColumns];
    for (int j = 0; j < kColumns; ++j) {
      const int column = static_cast<int>(threadIdx.x) + j * kThreads;
      v[j] = column < width ? to_float(line[column]) : 0.0F;
    }
    for (int h = 0; h < kHeads; ++h) {
      const float p = shared.scores[h][t];
      for (int j = 0; j < kColumns; ++j) {
        sums.values[h][j] = fmaf(p, v[j], sums.values[h][j]);
      }
    }
  }
}

// One stretch from its first page to its last: shared.top and .mass, and `sums`.
template <typename T, int kColumns>
__device__ void walk(
    const PagedAttentionTask& task,
    std::int64_t row,
    const Heads& heads,
    const Stretch& stretch,
    const float* query,
    Shared& shared,
    Sums<kColumns>& sums
) {
  if (threadIdx.x < kHeads) {
    shared.top[threadIdx.x] = kNever;
    shared.mass[threadIdx.x] = 0.0F;
  }
  for (int h = 0; h < kHeads; ++h) {
    for (int j = 0; j < kColumns; ++j) {
      sums.values[h][j] = 0.0F;
    }
  }
  __syncthreads();
  const std::int64_t keys = task.pages.keys.offset + heads.kv * task.pages.keys.width;
  const std::int64_t values = task.pages.values.offset + heads.kv * task.pages.values.width;
  for (std::int64_t page = stretch.first / kTokens; page * kTokens <= stretch.last; ++page) {
    const std::int64_t begin = page * kTokens;
    const int first = static_cast<int>(stretch.first > begin ? stretch.first - begin : 0);
    const std::int64_t end = stretch.last - begin;
    const int last = static_cast<int>(end < kTokens - 1 ? end : kTokens - 1);
    const T* lines = page_of<T>(task, row, page);
    score_page(task, lines + keys, query, first, last, shared);
    __syncthreads();
    weigh_page(first, last, shared);
    __syncthreads();
    add_values(task, lines + values, first, last, shared, sums);
    __syncthreads();
  }
}

// How two neighbouring stretches become one, for one head: what each side's sums are multiplied by.
struct Merge {
  float top = 0.0F;
  float left = 0.0F;
  float right = 0.0F;
};

__device__ Merge merge_tops(float left, float right) {
  const float top = fmaxf(left, right);
  return {.top = top, .left = expf(left - top), .right = expf(right - top)};
}

__device__ float merge_sums(const Merge& merge, float left, float right) {
  return fmaf(left, merge.left, right * merge.right);
}

// The factor of a head's sum that turns it into the output.
__device__ float output_factor(const float* sinks, std::int64_t head, float top, float mass) {
  if (sinks == nullptr) return 1.0F / mass;
  const Merge merge = merge_tops(top, sinks[head]);
  return merge.left / merge_sums(merge, mass, 1.0F);
}

// Where a stretch's sums lie in the scratch: value width floats, then maximum and mass.
__device__ float* partial_of(
    const PagedAttentionTask& task,
    std::int64_t row,
    std::int64_t head,
    std::int64_t split
) {
  const std::int64_t index = (row * task.heads + head) * task.splits_max + split;
  return task.scratch + index * (task.pages.values.width + 2);
}

template <typename T>
__device__ T* out_of(const PagedAttentionTask& task, std::int64_t row, std::int64_t head) {
  T* out = static_cast<T*>(task.out.data) + row * task.out.stride;
  return out + head * task.pages.values.width;
}

// A block to a row, heads and stretch.
template <typename T, int kColumns>
__global__ void __launch_bounds__(kThreads) attend_stretch(const PagedAttentionTask task) {
  extern __shared__ float query[];
  __shared__ Shared shared;
  const std::int64_t row = blockIdx.x;
  const std::int64_t position = task.places.positions[row];
  const int split = static_cast<int>(blockIdx.z);
  if (position < 0 || split >= splits_of(position, task.splits_max)) return;
  const Stretch stretch = stretch_of(position, task.window, task.splits_max, split);
  if (stretch.last < stretch.first) return;
  const Heads heads = heads_of(task);
  load_queries<T>(task, row, heads, query);
  Sums<kColumns> sums;
  walk<T>(task, row, heads, stretch, query, shared, sums);
  const auto width = static_cast<int>(task.pages.values.width);
  for (int h = 0; h < heads.count; ++h) {
    float* partial = partial_of(task, row, heads.first + h, split);
    for (int j = 0; j < kColumns; ++j) {
      const int column = static_cast<int>(threadIdx.x) + j * kThreads;
      if (column < width) partial[column] = sums.values[h][j];
    }
    if (threadIdx.x == 0) {
      partial[width] = shared.top[h];
      partial[width + 1] = shared.mass[h];
    }
  }
}

// A block to a row and head: its stretches in order.
template <typename T, int kColumns>
__global__ void __launch_bounds__(kThreads) merge_stretches(const PagedAttentionTask task) {
  const std::int64_t row = blockIdx.x;
  const std::int64_t head = blockIdx.y;
  const std::int64_t position = task.places.positions[row];
  const auto width = static_cast<int>(task.pages.values.width);
  T* out = out_of<T>(task, row, head);
  const int splits = position < 0 ? 0 : splits_of(position, task.splits_max);
  float sums[kColumns] = {};
  float top = kNever;
  float mass = 0.0F;
  for (int split = 0; split < splits; ++split) {
    const Stretch stretch = stretch_of(position, task.window, task.splits_max, split);
    if (stretch.last < stretch.first) continue;
    const float* partial = partial_of(task, row, head, split);
    const Merge merge = merge_tops(top, partial[width]);
    for (int j = 0; j < kColumns; ++j) {
      const int column = static_cast<int>(threadIdx.x) + j * kThreads;
      if (column < width) sums[j] = merge_sums(merge, sums[j], partial[column]);
    }
    mass = merge_sums(merge, mass, partial[width + 1]);
    top = merge.top;
  }
  const float factor = splits == 0 ? 0.0F : output_factor(task.sinks, head, top, mass);
  for (int j = 0; j < kColumns; ++j) {
    const int column = static_cast<int>(threadIdx.x) + j * kThreads;
    if (column < width) out[column] = detail::from_float<T>(sums[j] * factor);
  }
}

// A block to a row and heads: all stretches in turn, merged as merge_stretches does.
template <typename T, int kColumns>
__global__ void __launch_bounds__(kThreads) attend_row(const PagedAttentionTask task) {
  extern __shared__ float query[];
  __shared__ Shared shared;
  const std::int64_t row = blockIdx.x;
  const std::int64_t position = task.places.positions[row];
  const Heads heads = heads_of(task);
  if (position >= 0) load_queries<T>(task, row, heads, query);
  Sums<kColumns> total = {};
  float top[kHeads];
  float mass[kHeads] = {};
  for (float& value : top) {
    value = kNever;
  }
  const int splits = position < 0 ? 0 : splits_of(position, task.splits_max);
  for (int split = 0; split < splits; ++split) {
    const Stretch stretch = stretch_of(position, task.window, task.splits_max, split);
    if (stretch.last < stretch.first) continue;
    Sums<kColumns> sums;
    walk<T>(task, row, heads, stretch, query, shared, sums);
    for (int h = 0; h < kHeads; ++h) {
      const Merge merge = merge_tops(top[h], shared.top[h]);
      for (int j = 0; j < kColumns; ++j) {
        total.values[h][j] = merge_sums(merge, total.values[h][j], sums.values[h][j]);
      }
      mass[h] = merge_sums(merge, mass[h], shared.mass[h]);
      top[h] = merge.top;
    }
    __syncthreads();
  }
  const auto width = static_cast<int>(task.pages.values.width);
  for (int h = 0; h < kHeads; ++h) {
    if (h >= heads.count) break;
    T* out = out_of<T>(task, row, heads.first + h);
    const float factor =
        splits == 0 ? 0.0F : output_factor(task.sinks, heads.first + h, top[h], mass[h]);
    for (int j = 0; j < kColumns; ++j) {
      const int column = static_cast<int>(threadIdx.x) + j * kThreads;
      if (column < width) out[column] = detail::from_float<T>(total.values[h][j] * factor);
    }
  }
}

template <typename T, int kColumns>
void launch(device::cuda::Stream& stream, const PagedAttentionTask& task) {
  const std::int64_t group = task.heads / task.pages.kv_heads;
  const std::int64_t chunks = task.pages.kv_heads * ((group + kHeads - 1) / kHeads);
  const auto rows = static_cast<unsigned>(task.rows);
  const auto query = static_cast<std::size_t>(kHeads * task.pages.keys.width) * sizeof(float);
  if (task.rows > task.scratch_rows) {
    attend_row<T, kColumns>
        <<<dim3(rows, static_cast<unsigned>(chunks)), kThreads, query, stream.handle()>>>(task);
    return;
  }
  const auto splits = static_cast<unsigned>(task.splits_max);
  attend_stretch<T, kColumns>
      <<<dim3(rows, static_cast<unsigned>(chunks), splits), kThreads, query, stream.handle()>>>(task
      );
  merge_stretches<T, kColumns>
      <<<dim3(rows, static_cast<unsigned>(task.heads)), kThreads, 0, stream.handle()>>>(task);
}

// Floats that a block of the latent path keeps its merged stretches in.
constexpr std::int64_t kTotalFloats = kTileRows * 512;

hopper::QueryPart16 query_part(const QueryHeads& part) {
  return {
      .data = static_cast<const BF16*>(part.rows.data),
      .row_stride = part.rows.stride,
      .head_stride = part.head_stride};
}

// The path that task.plan names.
void attend_fast(device::cuda::Stream& stream, const PagedAttentionTask& task) {
  constexpr float kLog2E = 1.4426950408889634F;
  const std::int32_t multiprocessors = multiprocessors_on(stream);
  const AttentionCrew crew = attention_crew(task.plan, task.rows, multiprocessors);
  AttentionTeams teams = attention_teams(task.plan, task.rows, multiprocessors);
  const std::int64_t width = task.pages.values.width;
  const std::int64_t slots = partial_slots(task.plan, task.scratch_rows);
  if (task.rows * task.plan.rule.stretches_max > slots) teams = {};
  float* stats = task.scratch + slots * task.heads * width;
  const hopper::FastAttention fast{
      .arguments =
          {.work = task.work,
           .plan = task.plan,
           .team = teams.size,
           .places = task.places,
           .query = {query_part(task.query[0]), query_part(task.query[1])},
           .out = static_cast<BF16*>(task.out.data),
           .out_stride = task.out.stride,
           .sinks = task.sinks,
           .partials = task.scratch,
           .stats = stats,
           .totals = stats + slots * task.heads * 2,
           .scale = task.scale * kLog2E,
           .window = static_cast<std::int32_t>(task.window),
           .heads = static_cast<std::int32_t>(task.heads),
           .key_column = static_cast<std::int32_t>(task.pages.keys.offset),
           .value_column = static_cast<std::int32_t>(task.pages.values.offset)},
      .map = hopper::page_map(
          {.data = task.pages.base,
           .columns = task.pages.line,
           .lines = kPageTokens,
           .page_bytes = static_cast<std::int64_t>(task.pages.page_stride)}
      ),
      .width = width,
      .groups = crew.groups,
      .blocks = teams.size > 0 ? teams.size * teams.teams : crew.workers};
  if (task.plan.path == AttentionPath::Grouped) {
    hopper::grouped_attention(stream, fast);
  } else {
    hopper::latent_attention(stream, fast);
  }
}

}  // namespace

AttentionShape attention_shape(const PagedAttentionTask& task) {
  return {
      .dtype = task.pages.dtype,
      .heads = task.heads,
      .kv_heads = task.pages.kv_heads,
      .keys = task.pages.keys,
      .values = task.pages.values,
      .line = task.pages.line,
      .query_first = task.query[0].width,
      .query_second = task.query[1].width,
      .windowed = task.window > 0,
      .sinks = task.sinks != nullptr};
}

std::size_t attention_scratch_floats(
    std::int64_t rows,
    std::int64_t heads,
    std::int64_t value_width,
    std::int64_t splits_max
) {
  return static_cast<std::size_t>(rows * heads * splits_max * (value_width + 2));
}

std::size_t attention_scratch_floats(
    const AttentionPlan& plan,
    std::int64_t rows,
    std::int64_t heads,
    std::int64_t value_width
) {
  // A latent block for every multiprocessor there may be.
  constexpr std::int64_t kBlocksMax = 160;
  const std::int64_t totals = plan.path == AttentionPath::Latent ? kBlocksMax * kTotalFloats : 0;
  return static_cast<std::size_t>(partial_slots(plan, rows) * heads * (value_width + 2) + totals);
}

void paged_attention(device::cuda::Stream& stream, const PagedAttentionTask& task) {
  constexpr std::int64_t kKeyWidthMax = 1024;
  PLEIAD_CHECK(task.heads % task.pages.kv_heads == 0);
  PLEIAD_CHECK(task.query[0].width + task.query[1].width == task.pages.keys.width);
  PLEIAD_CHECK(task.pages.keys.width <= kKeyWidthMax && task.pages.values.width <= 8 * kThreads);
  PLEIAD_CHECK(task.splits_max > 0 && task.splits_max <= kSplitsMax);
  PLEIAD_CHECK(task.query[0].rows.dtype == task.pages.dtype && task.out.dtype == task.pages.dtype);
  if (task.rows == 0) return;
  if (task.plan.path != AttentionPath::Generic) {
    PLEIAD_CHECK(attention_plan(attention_shape(task)).path == task.plan.path);
    PLEIAD_CHECK(task.work.items != nullptr && task.scratch != nullptr);
    attend_fast(stream, task);
    stream.launched("paged_attention", task.rows, task.heads * task.pages.values.width);
    return;
  }
  detail::with_element(task.pages.dtype, [&](auto element) {
    using T = decltype(element);
    if (task.pages.values.width <= kThreads) {
      launch<T, 1>(stream, task);
    } else if (task.pages.values.width <= 4 * kThreads) {
      launch<T, 4>(stream, task);
    } else {
      launch<T, 8>(stream, task);
    }
  });
  stream.launched("paged_attention", task.rows, task.heads * task.pages.values.width);
}

}  // namespace pleiad::kernels::cuda
