#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "base/philox.h"

namespace pleiad::engine {
namespace {

constexpr float kNegativeInfinity = -std::numeric_limits<float>::infinity();

float or_negative_infinity(float logit) {
  return std::isnan(logit) ? kNegativeInfinity : logit;
}

}  // namespace

bool has_penalties(const api::Sampling& sampling) {
  return sampling.presence_penalty != 0.0F || sampling.frequency_penalty != 0.0F ||
         sampling.repetition_penalty != 1.0F;
}

TokenId argmax(std::span<const float> logits) {
  std::size_t best = 0;
  float best_logit = kNegativeInfinity;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] > best_logit) {
      best = i;
      best_logit = logits[i];
    }
  }
  return static_cast<TokenId>(best);
}

Sampler::Sampler(std::int64_t vocabulary)
    : logits_(static_cast<std::size_t>(vocabulary)),
      weights_(logits_.size()),
      counts_(logits_.size()),
      candidates_(logits_.size()) {}

TokenId Sampler::sample(const SampleInput& input) {
  PLEIAD_CHECK(input.sampling != nullptr && input.logits.size() == logits_.size());
  const api::Sampling& sampling = *input.sampling;
  const std::span<const float> logits = adjusted_logits(input);
  const TokenId likeliest = argmax(logits);
  const float top = logits[likeliest];
  // An infinite maximum leaves nothing to weigh: all mass is on it, or there is none at all.
  if (sampling.temperature < kGreedyTemperature || !std::isfinite(top)) return likeliest;
  const bool filtered = sampling.top_k > 0 || sampling.top_p < 1.0F || sampling.min_p > 0.0F;
  return filtered ? draw_filtered(logits, top, input) : draw_from_all(logits, top, input);
}

std::span<const float> Sampler::adjusted_logits(const SampleInput& input) {
  const api::Sampling& sampling = *input.sampling;
  if (sampling.logit_bias.empty() && !has_penalties(sampling)) return input.logits;
  std::ranges::copy(input.logits, logits_.begin());
  for (const auto& [token, bias] : sampling.logit_bias) {
    logits_[token] += bias;
  }
  if (has_penalties(sampling)) penalise(input);
  return logits_;
}

void Sampler::penalise(const SampleInput& input) {
  const api::Sampling& sampling = *input.sampling;
  const float repetition = sampling.repetition_penalty;
  const auto repeat = [&](TokenId token) {
    float& logit = logits_[token];
    logit = logit > 0.0F ? logit / repetition : logit * repetition;
  };
  for (const TokenId token : input.output) {
    ++counts_[token];
  }
  for (const TokenId token : input.output) {
    const std::int32_t count = counts_[token];
    if (count <= 0) continue;
    repeat(token);
    logits_[token] -= sampling.presence_penalty;
    logits_[token] -= sampling.frequency_penalty * static_cast<float>(count);
    counts_[token] = -1;  // done; the prompt pass must not repeat it
  }
  if (repetition != 1.0F) {
    for (const TokenId token : input.prompt) {
      if (counts_[token] != 0) continue;
      repeat(token);
      counts_[token] = -1;
    }
  }
  for (const TokenId token : input.output) {
    counts_[token] = 0;
  }
  for (const TokenId token : input.prompt) {
    counts_[token] = 0;
  }
}

TokenId Sampler::draw_from_all(std::span<const float> logits, float top, const SampleInput& input) {
  const float inverse = 1.0F / input.sampling->temperature;
  double mass = 0.0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    weights_[i] = std::exp((or_negative_infinity(logits[i]) - top) * inverse);
    mass += static_cast<double>(weights_[i]);
  }
  const double target = philox_uniform(input.sampling->seed, input.output.size()) * mass;
  double reached = 0.0;
  for (std::size_t i = 0; i < weights_.size(); ++i) {
    reached += static_cast<double>(weights_[i]);
    if (reached > target) return static_cast<TokenId>(i);
  }
  return argmax(logits);
}

TokenId Sampler::draw_filtered(std::span<const float> logits, float top, const SampleInput& input) {
  const api::Sampling& sampling = *input.sampling;
  const float floor = sampling.min_p > 0.0F ? top + sampling.temperature * std::log(sampling.min_p)
                                            : std::numeric_limits<float>::lowest();
  std::size_t kept = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] >= floor) candidates_[kept++] = {logits[i], static_cast<TokenId>(i)};
  }
  const auto likelier = [](const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
  };
  const auto begin = candidates_.begin();
  const auto at = [begin](std::size_t i) { return begin + static_cast<std::ptrdiff_t>(i); };
  const auto top_k = static_cast<std::size_t>(sampling.top_k);
  if (top_k > 0 && top_k < kept) {
    std::nth_element(begin, at(top_k - 1), at(kept), likelier);
    kept = top_k;
  }

  // Sort only as far as top_p reaches: a growing front, found by selection.
  double mass = 0.0;
  for (std::size_t i = 0; i < kept; ++i) {
    mass += static_cast<double>(std::exp((candidates_[i].logit - top) / sampling.temperature));
  }
  const double wanted = mass * static_cast<double>(sampling.top_p);
  std::size_t sorted = 0;
  std::size_t used = 0;
  double reached = 0.0;
  for (std::size_t front = 64; used < kept && (used == 0 || reached < wanted); ++used) {
    if (used == sorted) {
      front = std::min(std::max(front, sorted * 8), kept);
      if (front < kept) std::nth_element(at(sorted), at(front), at(kept), likelier);
      std::sort(at(sorted), at(front), likelier);
      sorted = front;
    }
    weights_[used] = std::exp((candidates_[used].logit - top) / sampling.temperature);
    reached += static_cast<double>(weights_[used]);
  }

  const double target = philox_uniform(sampling.seed, input.output.size()) * reached;
  double passed = 0.0;
  for (std::size_t i = 0; i < used; ++i) {
    passed += static_cast<double>(weights_[i]);
    if (passed > target) return candidates_[i].token;
  }
  return candidates_[0].token;
}

void score_token(
    std::span<const float> logits,
    TokenId token,
    std::int32_t top,
    api::TokenEvent& event
) {
  float likeliest = kNegativeInfinity;
  for (const float logit : logits) {
    likeliest = std::max(likeliest, or_negative_infinity(logit));
  }
  double mass = 0.0;
  for (const float logit : logits) {
    mass += static_cast<double>(std::exp(or_negative_infinity(logit) - likeliest));
  }
  const double log_mass = static_cast<double>(likeliest) + std::log(mass);
  const auto logprob = [&](TokenId id) {
    const auto logit = static_cast<double>(or_negative_infinity(logits[id]));
    return std::max(static_cast<float>(logit - log_mass), kLogprobMin);
  };
  event.chosen = {token, logprob(token)};

  // Insertion into a short ordered list: `top` is at most 20.
  event.top_count = std::min(top, static_cast<std::int32_t>(logits.size()));
  std::int32_t filled = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const float logit = or_negative_infinity(logits[i]);
    const auto worst = static_cast<std::size_t>(event.top_count - 1);
    if (event.top_count == 0) break;
    if (filled == event.top_count && !(logit > event.top[worst].logprob)) continue;
    auto place = static_cast<std::size_t>(filled < event.top_count ? filled++ : filled - 1);
    while (place > 0 && event.top[place - 1].logprob < logit) {
      event.top[place] = event.top[place - 1];
      --place;
    }
    event.top[place] = {static_cast<TokenId>(i), logit};
  }
  for (std::int32_t i = 0; i < event.top_count; ++i) {
    auto& entry = event.top[static_cast<std::size_t>(i)];
    entry.logprob = logprob(entry.token);
  }
}

}  // namespace pleiad::engine
