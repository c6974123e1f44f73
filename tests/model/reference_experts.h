#pragma once

#include <string>
#include <utility>
#include <vector>

#include "tests/model/reference_config.h"
#include "tests/model/reference_math.h"

namespace pleiad::model::reference {

// The chosen experts with their weights, from the gate's logits [experts] and, where the family has
// one, the bias of the choice [experts].
std::vector<std::pair<std::size_t, double>>
choose_experts(const Config& config, const Row& logits, const Row& choice_bias);

// The MLP of a layer, dense or of experts, for each normalised row [tokens, hidden].
Rows mlp(
    const Config& config,
    const Tensors& tensors,
    const std::string& prefix,
    bool moe,
    const Rows& x
);

}  // namespace pleiad::model::reference
