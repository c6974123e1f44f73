#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "api/generation.h"
#include "base/json.h"
#include "engine/load.h"
#include "engine/node_report.h"
#include "plan/parallel_layout.h"

namespace pleiad::engine {

// Where experts stand and how they are used, as GET /ep tells it: sizes and settings, each rank's
// load (of `ranks`, in rank order) and what it sent, and for each MoE layer the slot table with the
// tokens of all ranks that chose each expert. `nodes` are [nnodes]: a node without counts is one
// that has not told any, and its ranks' are missing.
Json ep_report(
    const LoadedModel& model,
    const plan::ParallelLayout& layout,
    std::span<api::Generator* const> ranks,
    std::span<const std::optional<NodeCounts>> nodes,
    std::uint32_t epoch
);

}  // namespace pleiad::engine
