#pragma once

#include <cstddef>
#include <cstdint>

#include "device/cuda/stream.h"
#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/row_places.h"

// How a step's attention is shared out: neighbouring rows of a sequence become tiles, and tiles
// with more than a block's share of the work are cut into pieces at the ends of stretches. It is
// made in GPU memory from the rows' places, once a step for all layers, and leaves no trace in the
// results.
namespace pleiad::kernels::cuda {

// A piece of a tile: what one block does at a time, for one unit of the heads.
struct AttentionItem {
  std::int32_t row = 0;       // the tile's first
  std::int32_t tokens = 0;    // rows of the tile, at consecutive positions of one sequence
  std::int32_t position = 0;  // of the first row; negative: rows without a place, whose output is 0
  std::int32_t stretch = 0;   // the piece's first
  std::int32_t stretches = 0;
  std::int32_t pieces = 1;  // of the tile
  std::int32_t tile = 0;
  std::int32_t slot = 0;   // of the tile's first partial sum; one slot a token and stretch
  std::int32_t table = 0;  // where the sequence's page table begins
  std::int32_t unused[3] = {};
};

// The list in GPU memory. It has no count: what a block reads first is its item.
struct AttentionWork {
  AttentionItem* items = nullptr;    // longest first as far as that is known; behind the last, some
                                     // without tokens
  std::int32_t* arrivals = nullptr;  // pieces done, [tiles, units, groups]; zero between layers
  std::int32_t* tiles = nullptr;     // first rows, while the list is made
};

// Blocks that attend at the same time, and tiles one takes at once.
struct AttentionCrew {
  std::int32_t workers = 0;
  std::int32_t groups = 1;
};

// Few rows want many blocks in flight, many rows want to share what a block loads. Pure.
AttentionCrew
attention_crew(const AttentionPlan& plan, std::int64_t rows, std::int32_t multiprocessors);

// Blocks that attend for few rows: a team (a cluster of blocks) for each row and unit, which shares
// out the row's stretches and merges them together, without a list.
struct AttentionTeams {
  std::int32_t size = 0;  // blocks; 0: too many rows
  std::int32_t teams = 0;
};

// Pure.
AttentionTeams
attention_teams(const AttentionPlan& plan, std::int64_t rows, std::int32_t multiprocessors);

// Multiprocessors of the GPU of `stream`.
std::int32_t multiprocessors_on(const device::cuda::Stream& stream);

// The crew of a step on the GPU of `stream`.
AttentionCrew
crew_on(const device::cuda::Stream& stream, const AttentionPlan& plan, std::int64_t rows);

// Slots for partial sums in scratch for steps of up to `rows` rows. Pure.
std::int64_t partial_slots(const AttentionPlan& plan, std::int64_t rows);

struct AttentionWorkTask {
  std::int64_t rows = 0;
  RowPlaces places;
  AttentionPlan plan;
  std::int64_t scratch_rows =
      0;  // that the scratch was made for; tiles that find no slot stay whole
  AttentionWork work;
};

// Most workers of any crew.
inline constexpr std::int64_t kWorkersMax = 512;
// Most tiles a block takes at once.
inline constexpr std::int64_t kGroupsMax = 2;

// Bytes of a list for steps of up to `rows` rows, and the list that lies there (16-byte aligned).
std::size_t attention_work_bytes(const AttentionPlan& plan, std::int64_t rows);
AttentionWork attention_work_at(void* memory, const AttentionPlan& plan, std::int64_t rows);

// Makes the list. REQUIRES: a plan that is not generic; rows of one sequence stand together.
// All work before it on the stream is done before any behind it begins, also where launches
// overlap: attention reads the rows' places, and pages before a sequence's first row of the step,
// before its own predecessor is done.
void list_attention_work(device::cuda::Stream& stream, const AttentionWorkTask& task);

}  // namespace pleiad::kernels::cuda
