#pragma once

#include <filesystem>
#include <span>
#include <vector>

#include "base/json.h"
#include "base/token.h"

namespace pleiad::model::reference {

struct Reference {
  std::vector<float> logits;  // of every position [tokens, vocabulary], rounded at the end only
  double margin = 0;          // the least by which an expert was chosen before another, in score
};

// What the checkpoint in `folder`, read as `config` says, makes of `tokens`, in double.
Reference compute_reference(
    const Json& config,
    const std::filesystem::path& folder,
    std::span<const TokenId> tokens
);

}  // namespace pleiad::model::reference
