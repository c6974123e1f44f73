#pragma once

#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "tests/model/reference_config.h"
#include "tests/model/reference_math.h"

namespace pleiad::model::reference {

// Which experts compute a row.
struct Choice {
  std::vector<std::pair<std::size_t, double>> experts;  // with their weights
  double margin = 0;  // by which the last one's score is above that of the best one left out
};

// From the gate's logits [experts] and, where the family has one, the bias of the choice [experts].
Choice choose_experts(const Config& config, const Row& logits, const Row& choice_bias);

struct MlpRows {
  Rows rows;
  double margin = std::numeric_limits<double>::infinity();  // the least of the rows' choices
};

// The MLP of a layer, dense or of experts, for each normalised row [tokens, hidden].
MlpRows
mlp(const Config& config, const Tensors& tensors, const std::string& prefix, bool moe, const Rows& x
);

}  // namespace pleiad::model::reference
