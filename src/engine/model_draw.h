#pragma once

#include <cstddef>
#include <optional>

#include "api/generation.h"
#include "model/draw.h"

namespace pleiad::engine {

// The draw of output token `index` as a model makes it itself (model::Model::draws()); none when
// the request's rules need its logits: penalties, biases, alternatives.
std::optional<model::Draw> model_draw(const api::GenerationRequest& request, std::size_t index);

// A drawn token with its score, as score_token() gives it without alternatives.
api::TokenLogprob drawn_logprob(const model::Drawn& drawn);

}  // namespace pleiad::engine
