#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "api/generation.h"
#include "api/sampling.h"
#include "base/token.h"

namespace pleiad::engine {

// Temperatures below this choose the most likely token: dividing by them would overflow.
inline constexpr float kGreedyTemperature = 1e-5F;

// JSON has no infinity: clients read this value as "never" (OpenAI's convention).
inline constexpr float kLogprobMin = -9999.0F;

// Whether the choice depends on the tokens before it.
bool has_penalties(const api::Sampling& sampling);

// What the choice of one token depends on, and nothing else (DESIGN R5).
struct SampleInput {
  std::span<const float> logits;  // [vocabulary]; NaN counts as minus infinity
  std::span<const TokenId> prompt;
  std::span<const TokenId> output;  // generated so far; its length is the draw's index
  const api::Sampling* sampling = nullptr;
};

// Chooses tokens. Keeps work space for one vocabulary, so one Sampler per worker. The order of
// rules is: logit_bias, repetition, presence and frequency penalties, temperature, min_p, top_k,
// top_p, draw. Ties go to the lower id.
class Sampler {
 public:
  explicit Sampler(std::int64_t vocabulary);

  // Allocates nothing.
  TokenId sample(const SampleInput& input);

 private:
  struct Candidate {
    float logit;
    TokenId token;
  };

  [[nodiscard]] std::span<const float> adjusted_logits(const SampleInput& input);
  void penalise(const SampleInput& input);
  [[nodiscard]] TokenId
  draw_from_all(std::span<const float> logits, float top, const SampleInput& input);
  [[nodiscard]] TokenId
  draw_filtered(std::span<const float> logits, float top, const SampleInput& input);

  std::vector<float> logits_;          // [vocabulary] adjusted copy
  std::vector<float> weights_;         // [vocabulary] exp((logit - top) / temperature)
  std::vector<std::int32_t> counts_;   // [vocabulary] zero between calls
  std::vector<Candidate> candidates_;  // [vocabulary]
};

// The most likely token, ties to the lower id; NaN counts as minus infinity.
TokenId argmax(std::span<const float> logits);

// Log-probabilities of the model's own distribution over `logits`: of `token`, and of the
// event.top_count = `top` most likely ones, into `event`. The sum of exponentials runs in double in
// id order. Allocates nothing.
void score_token(
    std::span<const float> logits,
    TokenId token,
    std::int32_t top,
    api::TokenEvent& event
);

}  // namespace pleiad::engine
