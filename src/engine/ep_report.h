#pragma once

#include <cstdint>
#include <span>

#include "api/generation.h"
#include "base/json.h"
#include "engine/rank_set.h"
#include "plan/parallel_layout.h"

namespace pleiad::engine {

// Where experts stand and how they are used, as GET /ep tells it: sizes and settings, each rank's
// load (of `ranks`, in rank order) and what the ranks of this process sent, and for each MoE layer
// the slot table with the tokens that chose each expert (counted by the ranks of this process).
Json ep_report(
    const RankSet& set,
    const plan::ParallelLayout& layout,
    std::span<api::Generator* const> ranks,
    std::uint32_t epoch
);

}  // namespace pleiad::engine
