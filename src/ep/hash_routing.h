#pragma once

#include <cstdint>
#include <span>

#include "base/token.h"
#include "kernels/expert_gate.h"

namespace pleiad::ep {

// Chooses each row's experts from its token id and the layer alone (Roller et al., "Hash Layers",
// arXiv 2106.04426): distinct, ascending, each with the same weight 1 / topk * options.scale. Needs
// no activations, so it can run before the layer does. ids and weights are [rows, topk].
void hash_experts(
    std::span<const TokenId> tokens,
    std::int64_t layer,
    const kernels::GateOptions& options,
    std::int32_t* ids,
    float* weights
);

}  // namespace pleiad::ep
