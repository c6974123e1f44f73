#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/token.h"

namespace pleiad::api {

// How the next token is drawn from the logits. The same values, prompt and seed give the same
// tokens whatever else runs (DESIGN R5).
struct Sampling {
  float temperature = 1.0F;  // 0: the most likely token
  float top_p = 1.0F;        // (0, 1]: smallest set of tokens whose probabilities reach this
  std::int32_t top_k = 0;    // at most this many tokens; 0: all
  float min_p = 0.0F;        // [0, 1]: drop tokens below this share of the most likely one
  std::uint64_t seed = 0;
  float presence_penalty = 0.0F;                      // [-2, 2], of tokens already generated
  float frequency_penalty = 0.0F;                     // [-2, 2], times how often they were
  float repetition_penalty = 1.0F;                    // > 0, of tokens in prompt or output
  std::vector<std::pair<TokenId, float>> logit_bias;  // added to these tokens' logits, [-100, 100]
};

// Checks every range above; fails with InvalidInput naming the parameter, the value and the range.
// `vocabulary` bounds the ids of logit_bias.
Result<void> validate(const Sampling& sampling, std::int64_t vocabulary);

}  // namespace pleiad::api
