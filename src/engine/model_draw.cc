#include "engine/model_draw.h"

#include <algorithm>

#include "base/philox.h"
#include "engine/sampler.h"

namespace pleiad::engine {

std::optional<model::Draw> model_draw(const api::GenerationRequest& request, std::size_t index) {
  const api::Sampling& sampling = request.sampling;
  if (has_penalties(sampling) || !sampling.logit_bias.empty()) return std::nullopt;
  if (request.top_logprobs.value_or(0) > 0) return std::nullopt;
  return model::Draw{
      .wanted = true,
      .temperature = sampling.temperature,
      .top_p = sampling.top_p,
      .min_p = sampling.min_p,
      .top_k = sampling.top_k,
      .uniform = philox_uniform(sampling.seed, index),
  };
}

api::TokenLogprob drawn_logprob(const model::Drawn& drawn) {
  const double logprob = static_cast<double>(drawn.logit) - drawn.log_mass;
  return {drawn.token, std::max(static_cast<float>(logprob), kLogprobMin)};
}

}  // namespace pleiad::engine
