#pragma once

#include <cstdint>

#include "base/result.h"
#include "model/model.h"
#include "plan/ep_settings.h"
#include "plan/parallel_layout.h"

namespace pleiad::engine {

// Rows of a step, over all ranks, from which EpLevel::Auto takes AllToAll; INT64_MAX: never. From
// the cost model with constants that are the same on every machine, so that all ranks decide alike;
// looked for up to `rows_max` rows a rank. Fails when layout or settings break a rule.
Result<std::int64_t> all_to_all_rows_min(
    const model::ModelShape& shape,
    const plan::ParallelLayout& layout,
    const plan::EpSettings& settings,
    model::Compute compute,
    std::int64_t rows_max
);

}  // namespace pleiad::engine
