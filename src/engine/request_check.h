#pragma once

#include <cstdint>

#include "api/generation.h"
#include "base/result.h"
#include "sched/scheduler.h"

namespace pleiad::engine {

// Everything about a request that can be judged without the scheduler: lengths against the limits,
// token ids against the vocabulary, numbers against their ranges. Fails with InvalidInput that
// names the field, its value and what is allowed.
Result<void> check_request(
    const api::GenerationRequest& request,
    const sched::SchedulerOptions& limits,
    std::int64_t vocabulary
);

}  // namespace pleiad::engine
