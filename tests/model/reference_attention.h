#pragma once

#include <string>

#include "tests/model/reference_config.h"
#include "tests/model/reference_math.h"

namespace pleiad::model::reference {

// Causal attention of a whole sequence over its normalised rows [tokens, hidden], with keys and
// values of every head written out. `prefix` is layer_prefix() of a layer with `window`.
Rows attention(
    const Config& config,
    const Tensors& tensors,
    const std::string& prefix,
    std::int64_t window,
    const Rows& x
);

}  // namespace pleiad::model::reference
