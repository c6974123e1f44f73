#include "api/sampling.h"

#include <cmath>
#include <string_view>

namespace pleiad::api {
namespace {

struct Range {
  std::string_view name;
  float value;
  float low;
  float high;
};

Result<void> check_range(const Range& range) {
  // Written so that NaN fails.
  if (range.value >= range.low && range.value <= range.high) return {};
  return invalid_input(
      "{} must be between {} and {}, got {}", range.name, range.low, range.high, range.value
  );
}

}  // namespace

Result<void> validate(const Sampling& sampling, std::int64_t vocabulary) {
  PLEIAD_TRY(check_range({"temperature", sampling.temperature, 0.0F, 2.0F}));
  PLEIAD_TRY(check_range({"top_p", sampling.top_p, 0.0F, 1.0F}));
  PLEIAD_TRY(check_range({"min_p", sampling.min_p, 0.0F, 1.0F}));
  PLEIAD_TRY(check_range({"presence_penalty", sampling.presence_penalty, -2.0F, 2.0F}));
  PLEIAD_TRY(check_range({"frequency_penalty", sampling.frequency_penalty, -2.0F, 2.0F}));
  PLEIAD_TRY(check_range({"repetition_penalty", sampling.repetition_penalty, 0.01F, 100.0F}));
  if (sampling.top_p <= 0.0F) {
    return invalid_input("top_p must be above 0 and at most 1, got {}", sampling.top_p);
  }
  if (sampling.top_k < 0) {
    return invalid_input("top_k must be 0 (off) or more, got {}", sampling.top_k);
  }
  for (const auto& [token, bias] : sampling.logit_bias) {
    if (static_cast<std::int64_t>(token) >= vocabulary) {
      return invalid_input(
          "logit_bias token {} is not below the vocabulary's {}", token, vocabulary
      );
    }
    PLEIAD_TRY(check_range({"logit_bias value", bias, -100.0F, 100.0F}));
  }
  return {};
}

}  // namespace pleiad::api
