#include "base/check.h"
#include "kernels/cuda/detail/device_math.cuh"
#include "kernels/cuda/detail/launch.cuh"
#include "kernels/cuda/detail/select_row.cuh"
#include "kernels/cuda/draw_tokens.h"

// First every stretch of a row is summed up by a block of its own; then a block to a row draws.
// Sums that decide a draw among kept tokens are integers, so that no order of additions shows.
namespace pleiad::kernels::cuda {
namespace {

using detail::comparable;

constexpr int kStretch = 4096;  // tokens
constexpr int kStretchThreads = 256;
constexpr int kPerThread = kStretch / kStretchThreads;
constexpr unsigned kRowThreads = 1024;
constexpr int kBins = 2048;
constexpr int kCandidates = static_cast<int>(kDrawCandidatesMax);
// Below it the most likely token is taken: engine::kGreedyTemperature.
constexpr float kGreedyTemperature = 1e-5F;

using Mass = unsigned long long;  // in units of 2^-32 of the most likely token's weight

// A stretch of a row: its most likely token, and sums against that one's logit.
struct StretchSum {
  float top = -INFINITY;
  std::int32_t likeliest = 0;
  float mass = 0.0F;      // of exponentials
  float tempered = 0.0F;  // likewise, over the temperature
};

__device__ int stretches_of(std::int64_t vocabulary) {
  return static_cast<int>((vocabulary + kStretch - 1) / kStretch);
}

__device__ float weight_of(float logit, float top, float inverse) {
  return top == -INFINITY ? 0.0F : expf((comparable(logit) - top) * inverse);
}

// The larger logit, ties to the lower id.
__device__ void keep_likelier(float& top, int& likeliest, float other, int other_id) {
  if (other > top || (other == top && other_id < likeliest)) {
    top = other;
    likeliest = other_id;
  }
}

// Thread t takes tokens t, t + 256, ... of the stretch.
__global__ void __launch_bounds__(kStretchThreads) sum_stretches(const DrawTokensTask task) {
  __shared__ float tops[kStretchThreads / 32];
  __shared__ int ids[kStretchThreads / 32];
  __shared__ float sums[detail::kWarp];
  detail::let_next_begin();
  detail::wait_for_earlier_work();
  const DrawRule rule = task.rules[blockIdx.y];
  if (rule.wanted == 0) return;
  const int begin = static_cast<int>(blockIdx.x) * kStretch;
  const int count = min(kStretch, static_cast<int>(task.vocabulary) - begin);
  const float* logits = task.logits + blockIdx.y * task.vocabulary + begin;
  float values[kPerThread];
  float top = -INFINITY;
  int likeliest = begin;
  for (int j = 0; j < kPerThread; ++j) {
    const int i = static_cast<int>(threadIdx.x) + j * kStretchThreads;
    values[j] = i < count ? comparable(logits[i]) : -INFINITY;
    if (values[j] > top) {
      top = values[j];
      likeliest = begin + i;
    }
  }
  for (int distance = 16; distance > 0; distance /= 2) {
    const float other = __shfl_xor_sync(detail::kAllLanes, top, distance);
    const int other_id = __shfl_xor_sync(detail::kAllLanes, likeliest, distance);
    keep_likelier(top, likeliest, other, other_id);
  }
  if (threadIdx.x % 32 == 0) {
    tops[threadIdx.x / 32] = top;
    ids[threadIdx.x / 32] = likeliest;
  }
  __syncthreads();
  for (int warp = 0; warp < kStretchThreads / 32; ++warp) {
    keep_likelier(top, likeliest, tops[warp], ids[warp]);
  }
  const float inverse = rule.temperature < kGreedyTemperature ? 1.0F : 1.0F / rule.temperature;
  float mass = 0.0F;
  float tempered = 0.0F;
  for (int j = 0; j < kPerThread; ++j) {
    mass += weight_of(values[j], top, 1.0F);
    tempered += weight_of(values[j], top, inverse);
  }
  mass = detail::block_sum(mass, sums);
  tempered = detail::block_sum(tempered, sums);
  if (threadIdx.x != 0) return;
  auto* out = static_cast<StretchSum*>(task.scratch);
  out[blockIdx.y * gridDim.x + blockIdx.x] = {top, likeliest, mass, tempered};
}

// What the block of a row shares.
struct RowShared {
  unsigned counts[kBins];
  Mass masses[kBins];
  std::uint64_t candidates[kCandidates];  // rank of the logit, then lower ids first
  Mass reached[kCandidates];              // by the candidate and those before it
  Mass of_warps[kRowThreads / 32];
  double threads_mass[kStretchThreads];
  // Of the row:
  float top;
  int likeliest;
  double log_mass;
  double tempered;
  int stretch;     // where a draw over all tokens falls
  double target;   // within it
  int last_bin;    // of the bins that hold all candidates
  unsigned found;  // candidates
  int token;       // drawn
  Mass whole;      // mass of all tokens that min_p leaves
};

// The row's maximum and masses from its stretches, by one thread.
__device__ void sum_row(const StretchSum* stretches, int count, float inverse, RowShared& row) {
  float top = -INFINITY;
  int likeliest = 0;
  for (int s = 0; s < count; ++s) {
    if (stretches[s].top > top) {
      top = stretches[s].top;
      likeliest = stretches[s].likeliest;
    }
  }
  double mass = 0.0;
  double tempered = 0.0;
  for (int s = 0; s < count; ++s) {
    const StretchSum& one = stretches[s];
    mass += static_cast<double>(one.mass) * static_cast<double>(weight_of(one.top, top, 1.0F));
    tempered +=
        static_cast<double>(one.tempered) * static_cast<double>(weight_of(one.top, top, inverse));
  }
  row.top = top;
  row.likeliest = likeliest;
  row.log_mass = static_cast<double>(top) + log(mass);
  row.tempered = tempered;
}

// The stretch in which a draw over all tokens falls, by one thread.
__device__ void find_stretch(
    const StretchSum* stretches,
    int count,
    float inverse,
    double uniform,
    RowShared& row
) {
  const double target = uniform * row.tempered;
  double reached = 0.0;
  row.stretch = 0;
  row.target = 0.0;
  for (int s = 0; s < count; ++s) {
    const auto weight = static_cast<double>(weight_of(stretches[s].top, row.top, inverse));
    const double here = static_cast<double>(stretches[s].tempered) * weight;
    if (here <= 0.0) continue;
    row.stretch = s;  // the last one with any mass, should rounding carry the target past it
    row.target = target - reached;
    if (reached + here > target) return;
    reached += here;
  }
}

// Draws within row.stretch, in id order: thread t < 256 has 16 neighbours.
__device__ void
draw_in_stretch(const float* logits, std::int64_t vocabulary, float inverse, RowShared& row) {
  const int thread = static_cast<int>(threadIdx.x);
  const int first = row.stretch * kStretch + thread * kPerThread;
  const auto weight = [&](int token) {
    if (token >= static_cast<int>(vocabulary)) return 0.0;
    return static_cast<double>(weight_of(logits[token], row.top, inverse));
  };
  if (thread < kStretchThreads) {
    double mine = 0.0;
    for (int j = 0; j < kPerThread; ++j) {
      mine += weight(first + j);
    }
    row.threads_mass[thread] = mine;
  }
  __syncthreads();
  if (thread != 0) return;
  double reached = 0.0;
  int chosen = 0;
  double before = 0.0;
  for (int t = 0; t < kStretchThreads; ++t) {
    if (row.threads_mass[t] <= 0.0) continue;
    chosen = t;
    before = reached;
    reached += row.threads_mass[t];
    if (reached > row.target) break;
  }
  int token = row.likeliest;
  reached = before;
  for (int j = 0; j < kPerThread; ++j) {
    const int id = row.stretch * kStretch + chosen * kPerThread + j;
    const double here = weight(id);
    if (here <= 0.0) continue;
    token = id;
    reached += here;
    if (reached > row.target) break;
  }
  row.token = token;
}

// Bins of logits, the likeliest first: it falls as the logit grows, whatever is rounded.
__device__ int bin_of(float logit, float top) {
  constexpr float kPerUnit = 64.0F;
  return static_cast<int>(fminf((top - comparable(logit)) * kPerUnit, kBins - 1));
}

__device__ Mass mass_of(float logit, float top, float inverse) {
  constexpr double kOne = 4294967296.0;
  return static_cast<Mass>(static_cast<double>(weight_of(logit, top, inverse)) * kOne);
}

// Counts and masses of the bins, of tokens not below `floor`.
__device__ void
fill_bins(const float* logits, int vocabulary, float inverse, float floor, RowShared& row) {
  for (int bin = static_cast<int>(threadIdx.x); bin < kBins; bin += kRowThreads) {
    row.counts[bin] = 0;
    row.masses[bin] = 0;
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < vocabulary; i += kRowThreads) {
    const float logit = comparable(logits[i]);
    if (logit < floor) continue;
    const int bin = bin_of(logit, row.top);
    atomicAdd(&row.counts[bin], 1U);
    atomicAdd(&row.masses[bin], mass_of(logit, row.top, inverse));
  }
  __syncthreads();
}

// The first bin at which the rule's tokens are complete, by one warp; kBins when they are too many.
__device__ int find_last_bin(const DrawRule& rule, RowShared& row) {
  const int lane = static_cast<int>(threadIdx.x);
  constexpr int kShare = kBins / 32;
  unsigned count = 0;
  Mass mass = 0;
  for (int i = 0; i < kShare; ++i) {
    count += row.counts[lane * kShare + i];
    mass += row.masses[lane * kShare + i];
  }
  unsigned count_before = 0;
  Mass mass_before = 0;
  Mass whole = 0;
  for (int other = 0; other < 32; ++other) {
    const unsigned their_count = __shfl_sync(detail::kAllLanes, count, other);
    const Mass their_mass = __shfl_sync(detail::kAllLanes, mass, other);
    if (other < lane) count_before += their_count;
    if (other < lane) mass_before += their_mass;
    whole += their_mass;
  }
  if (lane == 0) row.whole = whole;
  // Under top_k the mass that top_p is of is not known yet: only the count decides then.
  const auto top_k = static_cast<unsigned>(rule.top_k);
  const bool by_mass = top_k == 0 && rule.top_p < 1.0F;
  const auto wanted =
      static_cast<Mass>(static_cast<double>(rule.top_p) * static_cast<double>(whole));
  int last = kBins;
  for (int i = 0; i < kShare && last == kBins; ++i) {
    count_before += row.counts[lane * kShare + i];
    mass_before += row.masses[lane * kShare + i];
    const bool complete = by_mass ? mass_before > wanted : top_k > 0 && count_before >= top_k;
    if (count_before > kDrawCandidatesMax) break;
    if (complete) last = lane * kShare + i;
  }
  last = __reduce_min_sync(detail::kAllLanes, last);
  if (last < kBins) return last;
  // Fewer tokens than the rule would keep: all of them, when a block can order them.
  unsigned all = count;
  for (int distance = 16; distance > 0; distance /= 2) {
    all += __shfl_xor_sync(detail::kAllLanes, all, distance);
  }
  return all <= kDrawCandidatesMax ? kBins - 1 : kBins;
}

// Tokens up to the last bin, the likeliest first.
__device__ void gather(const float* logits, int vocabulary, float floor, RowShared& row) {
  if (threadIdx.x == 0) row.found = 0;
  for (int i = static_cast<int>(threadIdx.x); i < kCandidates; i += kRowThreads) {
    row.candidates[i] = 0;
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < vocabulary; i += kRowThreads) {
    const float logit = comparable(logits[i]);
    if (logit < floor || bin_of(logit, row.top) > row.last_bin) continue;
    const unsigned at = atomicAdd(&row.found, 1U);
    const auto id = ~static_cast<std::uint32_t>(i);
    row.candidates[at] = static_cast<std::uint64_t>(detail::rank_of(logit)) << 32U | id;
  }
  __syncthreads();
  // Bitonic, descending: whatever order they came in, they leave in this one.
  for (int size = 2; size <= kCandidates; size *= 2) {
    for (int stride = size / 2; stride > 0; stride /= 2) {
      for (int i = static_cast<int>(threadIdx.x); i < kCandidates; i += kRowThreads) {
        const int other = i ^ stride;
        if (other < i) continue;
        const bool descends = (i & size) == 0;
        const std::uint64_t a = row.candidates[i];
        const std::uint64_t b = row.candidates[other];
        if ((a < b) != descends) continue;
        row.candidates[i] = b;
        row.candidates[other] = a;
      }
      __syncthreads();
    }
  }
}

__device__ int candidate_id(std::uint64_t candidate) {
  return static_cast<int>(~static_cast<std::uint32_t>(candidate));
}

// reached[i] = mass of candidates 0 to i. Thread t has candidates 2 t and 2 t + 1.
__device__ void sum_candidates(const float* logits, float inverse, RowShared& row) {
  const int thread = static_cast<int>(threadIdx.x);
  const auto mass = [&](int i) {
    if (i >= static_cast<int>(row.found)) return Mass{0};
    return mass_of(logits[candidate_id(row.candidates[i])], row.top, inverse);
  };
  const Mass first = mass(2 * thread);
  const Mass both = first + mass(2 * thread + 1);
  Mass sum = both;
  for (unsigned distance = 1; distance < 32; distance *= 2) {
    const Mass other = __shfl_up_sync(detail::kAllLanes, sum, distance);
    if (thread % 32 >= static_cast<int>(distance)) sum += other;
  }
  if (thread % 32 == 31) row.of_warps[thread / 32] = sum;
  __syncthreads();
  Mass before = sum - both;
  for (int warp = 0; warp < thread / 32; ++warp) {
    before += row.of_warps[warp];
  }
  row.reached[2 * thread] = before + first;
  row.reached[2 * thread + 1] = before + both;
  __syncthreads();
}

// The first candidate below `count` whose reached mass is above `limit`; count - 1 when none is.
__device__ int first_above(const Mass* reached, int count, Mass limit) {
  int low = 0;
  int high = count - 1;
  while (low < high) {
    const int middle = (low + high) / 2;
    if (reached[middle] > limit) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

// The draw among sorted candidates, by one thread.
__device__ int draw_candidate(const DrawRule& rule, const RowShared& row) {
  int kept = static_cast<int>(row.found);
  if (rule.top_k > 0) kept = min(kept, rule.top_k);
  const Mass mass = rule.top_k > 0 || rule.top_p >= 1.0F ? row.reached[kept - 1] : row.whole;
  const double wanted = static_cast<double>(rule.top_p) * static_cast<double>(mass);
  if (rule.top_p < 1.0F) {
    // Up to the first that reaches what is wanted.
    const auto limit = static_cast<Mass>(ceil(wanted));
    kept = first_above(row.reached, kept, limit == 0 ? 0 : limit - 1) + 1;
  }
  const auto target = static_cast<Mass>(rule.uniform * static_cast<double>(row.reached[kept - 1]));
  return candidate_id(row.candidates[first_above(row.reached, kept, target)]);
}

// Draws among the tokens that min_p, top_k and top_p keep; -1 when they are too many.
__device__ void
draw_kept(const DrawRule& rule, const float* logits, int vocabulary, RowShared& row) {
  const float inverse = 1.0F / rule.temperature;
  const float floor = rule.min_p > 0.0F ? row.top + rule.temperature * logf(rule.min_p) : -INFINITY;
  fill_bins(logits, vocabulary, inverse, floor, row);
  if (threadIdx.x < 32) {
    const int last = find_last_bin(rule, row);
    if (threadIdx.x == 0) row.last_bin = last;
  }
  __syncthreads();
  if (row.last_bin >= kBins) return;
  gather(logits, vocabulary, floor, row);
  sum_candidates(logits, inverse, row);
  if (threadIdx.x == 0) row.token = draw_candidate(rule, row);
}

__global__ void __launch_bounds__(kRowThreads) draw_rows(const DrawTokensTask task) {
  extern __shared__ __align__(16) unsigned char shared[];
  auto& row = *reinterpret_cast<RowShared*>(shared);
  detail::let_next_begin();
  detail::wait_for_earlier_work();
  const DrawRule rule = task.rules[blockIdx.x];
  if (rule.wanted == 0) {
    if (threadIdx.x == 0) task.drawn[blockIdx.x] = {};
    return;
  }
  const int stretches = stretches_of(task.vocabulary);
  const auto* sums = static_cast<const StretchSum*>(task.scratch) + blockIdx.x * stretches;
  const float* logits = task.logits + blockIdx.x * task.vocabulary;
  const bool greedy = rule.temperature < kGreedyTemperature;
  const float inverse = greedy ? 1.0F : 1.0F / rule.temperature;
  const bool filtered = rule.top_k > 0 || rule.top_p < 1.0F || rule.min_p > 0.0F;
  if (threadIdx.x == 0) {
    sum_row(sums, stretches, inverse, row);
    row.token = greedy || !isfinite(row.top) ? row.likeliest : -1;
    if (row.token < 0 && !filtered) find_stretch(sums, stretches, inverse, rule.uniform, row);
  }
  __syncthreads();
  if (row.token < 0) {
    if (filtered) {
      draw_kept(rule, logits, static_cast<int>(task.vocabulary), row);
    } else {
      draw_in_stretch(logits, task.vocabulary, inverse, row);
    }
  }
  if (threadIdx.x != 0) return;
  const float logit = row.token < 0 ? 0.0F : comparable(logits[row.token]);
  task.drawn[blockIdx.x] = {row.token, logit, row.log_mass};
}

}  // namespace

std::size_t draw_scratch_bytes(std::int64_t rows, std::int64_t vocabulary) {
  const std::int64_t stretches = (vocabulary + kStretch - 1) / kStretch;
  return static_cast<std::size_t>(rows * stretches) * sizeof(StretchSum);
}

void draw_tokens(device::cuda::Stream& stream, const DrawTokensTask& task) {
  PLEIAD_CHECK(task.vocabulary > 0 && task.vocabulary < (std::int64_t{1} << 31));
  if (task.rows == 0) return;
  const auto rows = static_cast<unsigned>(task.rows);
  const dim3 stretches(detail::blocks_for(task.vocabulary, kStretch), rows);
  detail::launch(stream, sum_stretches, stretches, kStretchThreads, 0, task);
  detail::launch(stream, draw_rows, dim3(rows), kRowThreads, sizeof(RowShared), task);
  stream.launched("draw_tokens", task.rows, task.vocabulary);
}

}  // namespace pleiad::kernels::cuda
