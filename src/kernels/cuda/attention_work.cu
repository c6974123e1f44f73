#include "base/check.h"
#include "kernels/cuda/attention_work.h"
#include "kernels/cuda/detail/device_math.cuh"

// One block makes the list: its threads take rows, then tiles, one each at a time; running sums and
// maxima over threads number them.
namespace pleiad::kernels::cuda {
namespace {

using detail::kAllLanes;
using detail::kWarp;

constexpr unsigned kThreadsMax = 1024;
constexpr unsigned kWarpsMax = kThreadsMax / kWarp;

// A task and what follows from it.
struct Listing {
  std::int32_t rows = 0;
  RowPlaces places;
  AttentionPlan plan;
  AttentionWork work;
  AttentionCrew crew;
  std::int32_t slots = 0;
};

struct Sum {
  __device__ static int of(int a, int b) { return a + b; }
  static constexpr int kNothing = 0;
};

struct Largest {
  __device__ static int of(int a, int b) { return a > b ? a : b; }
  static constexpr int kNothing = -1;
};

struct Running {
  int here = 0;  // over the threads up to and with this one
  int all = 0;   // over all threads
};

// `shared`: [kWarpsMax] ints that may be used again at once.
template <class Over>
__device__ Running running(int value, int* shared) {
  const unsigned lane = threadIdx.x % kWarp;
  const unsigned warp = threadIdx.x / kWarp;
  for (unsigned distance = 1; distance < kWarp; distance *= 2) {
    const int before = __shfl_up_sync(kAllLanes, value, distance);
    if (lane >= distance) value = Over::of(before, value);
  }
  __syncthreads();
  if (lane == kWarp - 1) shared[warp] = value;
  __syncthreads();
  int before = Over::kNothing;
  int all = Over::kNothing;
  for (unsigned w = 0; w < blockDim.x / kWarp; ++w) {
    if (w == warp) before = all;
    all = Over::of(all, shared[w]);
  }
  return {.here = Over::of(before, value), .all = all};
}

// Whether no tile may hold `row` and the one before it.
__device__ bool begins_run(const Listing& task, int row) {
  if (row == 0) return true;
  const int position = task.places.positions[row];
  const int before = task.places.positions[row - 1];
  if (position < 0 || position != before + 1) return true;
  if (task.places.table_of[row] != task.places.table_of[row - 1]) return true;
  return position % kPageTokens == 0 &&
         stretch_pages(task.plan.rule, position) != stretch_pages(task.plan.rule, before);
}

// First rows of tiles, and one past the last; how many tiles.
__device__ int cut_tiles(const Listing& task, int* shared) {
  const int rows = task.rows;
  const auto threads = static_cast<int>(blockDim.x);
  const int tile_rows = task.plan.tile_tokens * task.crew.groups;
  int tiles = 0;
  int run = 0;
  for (int first = 0; first < rows; first += threads) {
    const int row = first + static_cast<int>(threadIdx.x);
    const bool begins = row < rows && begins_run(task, row);
    const Running runs = running<Largest>(begins ? row : -1, shared);
    const int run_first = Largest::of(run, runs.here);
    const bool cut = row < rows && (row - run_first) % tile_rows == 0;
    const Running cuts = running<Sum>(cut ? 1 : 0, shared);
    if (cut) task.work.tiles[tiles + cuts.here - 1] = row;
    tiles += cuts.all;
    run = Largest::of(run, runs.all);
  }
  if (threadIdx.x == 0) task.work.tiles[tiles] = rows;
  __syncthreads();
  return tiles;
}

// Stretches of the tile's last row, which sees most.
__device__ int stretches_of(const Listing& task, int tile) {
  const int position = task.places.positions[task.work.tiles[tile + 1] - 1];
  return position < 0 ? 0 : stretch_count(task.plan.rule, position);
}

// Stretches that a block's share of the work comes to.
__device__ int share(const Listing& task, int tiles, int* shared) {
  int mine = 0;
  for (int tile = static_cast<int>(threadIdx.x); tile < tiles;
       tile += static_cast<int>(blockDim.x)) {
    mine += stretches_of(task, tile);
  }
  const int all = running<Sum>(mine, shared).all * task.plan.units;
  const int least = (all + task.crew.workers - 1) / task.crew.workers;
  return least > 1 ? least : 1;
}

struct Cut {
  int pieces = 1;
  int slots = 0;
};

__device__ Cut cut_of(int stretches, int tokens, int share) {
  if (stretches <= share) return {};
  const int pieces = (stretches + share - 1) / share;
  // The first piece merges what it sums up, the others hand over each stretch.
  return {.pieces = pieces, .slots = (stretches - stretches / pieces + 1) * tokens};
}

__device__ void put_items(
    const Listing& task,
    int tile,
    int first_item,
    int first_slot,
    int stretches,
    int pieces
) {
  const int row = task.work.tiles[tile];
  AttentionItem item{
      .row = row,
      .tokens = task.work.tiles[tile + 1] - row,
      .position = task.places.positions[row],
      .pieces = pieces,
      .tile = tile,
      .slot = first_slot,
      .table = task.places.table_of[row]};
  for (int piece = 0; piece < pieces; ++piece) {
    item.stretch = stretches * piece / pieces;
    item.stretches = stretches * (piece + 1) / pieces - item.stretch;
    task.work.items[first_item + piece] = item;
  }
  if (pieces == 1) return;
  const int counters = task.plan.units * task.crew.groups;
  for (int i = 0; i < counters; ++i) {
    task.work.arrivals[tile * counters + i] = 0;
  }
}

__global__ void __launch_bounds__(kThreadsMax) list_work(const Listing task) {
  __shared__ int shared[kWarpsMax];
  const auto threads = static_cast<int>(blockDim.x);
  const int tiles = cut_tiles(task, shared);
  const int stretches_each = share(task, tiles, shared);
  int items = 0;
  int slots = 0;
  // From the last tile, which sees most of its sequence, to the first.
  for (int first = 0; first < tiles; first += threads) {
    const int tile = tiles - 1 - first - static_cast<int>(threadIdx.x);
    const int stretches = tile < 0 ? 0 : stretches_of(task, tile);
    const int tokens = tile < 0 ? 0 : task.work.tiles[tile + 1] - task.work.tiles[tile];
    Cut cut = cut_of(stretches, tokens, stretches_each);
    const Running used = running<Sum>(cut.slots, shared);
    const int slot = slots + used.here - cut.slots;
    if (slot + cut.slots > task.slots) cut.pieces = 1;
    const Running listed = running<Sum>(tile < 0 ? 0 : cut.pieces, shared);
    if (tile >= 0) {
      put_items(task, tile, items + listed.here - cut.pieces, slot, stretches, cut.pieces);
    }
    items += listed.all;
    slots += used.all;
  }
  // A block's turn after its last lies within the next two rounds.
  for (int i = static_cast<int>(threadIdx.x); i < 2 * task.crew.workers; i += threads) {
    task.work.items[items + i] = AttentionItem{};
  }
  // Kernels behind may read the list as soon as this block has ended.
  __threadfence();
}

constexpr std::int64_t kItemInts = sizeof(AttentionItem) / sizeof(std::int32_t);

struct Parts {
  std::int64_t arrivals = 0;
  std::int64_t tiles = 0;
  std::int64_t ints = 0;
};

Parts parts_of(const AttentionPlan& plan, std::int64_t rows) {
  Parts parts;
  // A tile has at least one row; pieces beyond one a tile are at most as many as workers, and so
  // are the items behind the last.
  parts.arrivals = (rows + 3 * kWorkersMax) * kItemInts;
  parts.tiles = parts.arrivals + rows * plan.units * kGroupsMax;
  parts.ints = parts.tiles + rows + 1;
  return parts;
}

}  // namespace

std::size_t attention_work_bytes(const AttentionPlan& plan, std::int64_t rows) {
  return static_cast<std::size_t>(parts_of(plan, rows).ints) * sizeof(std::int32_t);
}

AttentionWork attention_work_at(void* memory, const AttentionPlan& plan, std::int64_t rows) {
  auto* ints = static_cast<std::int32_t*>(memory);
  const Parts parts = parts_of(plan, rows);
  return {
      .items = static_cast<AttentionItem*>(memory),
      .arrivals = ints + parts.arrivals,
      .tiles = ints + parts.tiles,
  };
}

std::int32_t multiprocessors_on(const device::cuda::Stream& stream) {
  int multiprocessors = 0;
  const cudaError_t status =
      cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, stream.gpu());
  PLEIAD_CHECK(status == cudaSuccess, cudaGetErrorString(status));
  return multiprocessors;
}

AttentionCrew
crew_on(const device::cuda::Stream& stream, const AttentionPlan& plan, std::int64_t rows) {
  return attention_crew(plan, rows, multiprocessors_on(stream));
}

void list_attention_work(device::cuda::Stream& stream, const AttentionWorkTask& task) {
  PLEIAD_CHECK(task.plan.path != AttentionPath::Generic);
  if (task.rows == 0) return;
  const Listing listing{
      .rows = static_cast<std::int32_t>(task.rows),
      .places = task.places,
      .plan = task.plan,
      .work = task.work,
      .crew = crew_on(stream, task.plan, task.rows),
      .slots = static_cast<std::int32_t>(partial_slots(task.plan, task.scratch_rows))};
  PLEIAD_CHECK(listing.crew.workers <= kWorkersMax && listing.crew.groups <= kGroupsMax);
  // Each sum over threads takes a turn of every warp.
  constexpr std::int64_t kFewThreads = 128;
  const unsigned threads = task.rows <= kFewThreads ? kFewThreads : kThreadsMax;
  list_work<<<1, threads, 0, stream.handle()>>>(listing);
  stream.launched("list_attention_work", task.rows, task.plan.units);
}

}  // namespace pleiad::kernels::cuda
