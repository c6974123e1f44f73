#pragma once

#include <filesystem>
#include <span>
#include <vector>

#include "base/json.h"
#include "base/token.h"

namespace pleiad::model::reference {

// Logits of every position of `tokens` [tokens, vocabulary], by the checkpoint in `folder` read as
// `config` says, computed in double and rounded at the end.
std::vector<float> reference_logits(
    const Json& config,
    const std::filesystem::path& folder,
    std::span<const TokenId> tokens
);

}  // namespace pleiad::model::reference
