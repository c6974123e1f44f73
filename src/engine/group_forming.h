#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "comm/group.h"
#include "comm/rendezvous.h"
#include "comm/ucx_group.h"
#include "engine/group_keeper.h"

namespace pleiad::engine {

// This node's words to the others, with the addresses of `endpoints`.
comm::NodeHello make_hello(
    const GroupOptions& options,
    const LoadedModel& model,
    std::span<const std::unique_ptr<comm::UcxEndpoint>> endpoints
);

// An endpoint for each rank of this node.
Result<std::vector<std::unique_ptr<comm::UcxEndpoint>>> open_endpoints(const GroupOptions& options);

// Joins all of this node's ranks to the group of `roster`, at the same time, since each waits for
// the others. Fails with Cancelled soon after `stopped` turned true; any thread may be asked it.
Result<std::vector<std::unique_ptr<comm::Group>>> join_groups(
    const GroupOptions& options,
    std::vector<std::unique_ptr<comm::UcxEndpoint>> endpoints,
    const comm::Roster& roster,
    const std::function<bool()>& stopped
);

}  // namespace pleiad::engine
