#include "plan/ep_settings.h"

#include <algorithm>
#include <cmath>

namespace pleiad::plan {
namespace {

constexpr std::size_t kBufferScalesMax = 64;
// Rounding up forgives this share of a row's error in the products: 0.1 * 3 * 10 is 3 rows.
constexpr double kRoundingSlack = 1e-9;
// Row counts beyond this are no longer exact in a double, and no machine holds them.
constexpr double kRowsMax = 0x1p52;

std::int64_t rounded_up(double rows) {
  return static_cast<std::int64_t>(std::ceil(std::min(rows, kRowsMax) - kRoundingSlack));
}

Result<void> validate_cutoff(const EpSettings& settings) {
  const double factor = settings.topk_scaling_factor;
  // Written so that NaN is refused too.
  if (!(factor > 0.0 && factor <= 1.0)) {
    return invalid_input(
        "topk_scaling_factor is {}; it must be in (0, 1], nearest valid value {}",
        factor,
        factor > 1.0 ? "1" : "a small positive number such as 0.01"
    );
  }
  if (settings.enable_init_routing_cutoff && settings.level == EpLevel::AllToAll) {
    return invalid_input(
        "enable_init_routing_cutoff is true with ep_level 2; it needs ep_level 1 (or auto)"
    );
  }
  if (factor < 1.0 && !settings.enable_init_routing_cutoff) {
    return invalid_input(
        "topk_scaling_factor is {} without enable_init_routing_cutoff; set that to true, or the "
        "factor to 1",
        factor
    );
  }
  return {};
}

Result<void> validate_scales(const std::vector<BufferScale>& scales) {
  constexpr std::string_view kKey = "alltoall_ep_buffer_scale_factors";
  if (scales.empty() || scales.size() > kBufferScalesMax) {
    return invalid_input("{} has {} entries; 1 to {}", kKey, scales.size(), kBufferScalesMax);
  }
  for (std::size_t i = 0; i < scales.size(); ++i) {
    const BufferScale& scale = scales[i];
    if (scale.tokens < 0) {
      return invalid_input(
          "{}: threshold {} of entry {} is negative; at least 0", kKey, scale.tokens, i
      );
    }
    if (!(scale.factor > 0.0) || !std::isfinite(scale.factor)) {
      return invalid_input(
          "{}: factor {} of entry {} is no finite number above 0; 1 is the smallest that holds "
          "evenly spread tokens",
          kKey,
          scale.factor,
          i
      );
    }
    if (i > 0 && scale.tokens >= scales[i - 1].tokens) {
      return invalid_input(
          "{}: thresholds must fall from entry to entry; {} follows {}, at most {}",
          kKey,
          scale.tokens,
          scales[i - 1].tokens,
          scales[i - 1].tokens - 1
      );
    }
  }
  if (scales.back().tokens != 0) {
    return invalid_input(
        "{}: the last threshold is {}; it must be 0, so that every step finds an entry",
        kKey,
        scales.back().tokens
    );
  }
  return {};
}

}  // namespace

std::vector<BufferScale> EpSettings::default_buffer_scales() {
  return {
      {1048576, 1.32},
      {524288, 1.4},
      {262144, 1.53},
      {131072, 1.8},
      {32768, 3.0},
      {8192, 5.2},
      {0, 8.0},
  };
}

Result<void> validate(const EpSettings& settings) {
  PLEIAD_TRY(validate_cutoff(settings));
  PLEIAD_TRY(validate_scales(settings.alltoall_ep_buffer_scale_factors));
  if (settings.two_batch_tokens_min < 2) {
    return invalid_input(
        "two_batch_tokens_min is {}; a step of fewer than 2 tokens cannot be split, at least 2",
        settings.two_batch_tokens_min
    );
  }
  return {};
}

std::int64_t
level1_rows_at_once(const EpSettings& settings, std::int64_t tokens, std::int64_t topk) {
  PLEIAD_CHECK(tokens >= 0 && topk >= 1, "tokens and choices are counts");
  if (!settings.enable_init_routing_cutoff) return std::max<std::int64_t>(tokens, 1);
  const double routed =
      settings.topk_scaling_factor * static_cast<double>(tokens) * static_cast<double>(topk);
  // A row may bring all of its choices to one rank, so the bound on them holds for any routing.
  return std::clamp<std::int64_t>(rounded_up(routed) / topk, 1, std::max<std::int64_t>(tokens, 1));
}

std::int64_t level2_receive_rows(
    const EpSettings& settings,
    std::int64_t tokens,
    std::int64_t topk,
    std::int64_t ep_size
) {
  PLEIAD_CHECK(tokens >= 0 && topk >= 1 && ep_size >= 1, "tokens, choices and ranks are counts");
  const auto& scales = settings.alltoall_ep_buffer_scale_factors;
  const auto found = std::find_if(scales.begin(), scales.end(), [tokens](const BufferScale& s) {
    return s.tokens <= tokens;
  });
  PLEIAD_CHECK(found != scales.end(), "validated scales end with threshold 0");
  const double rows = found->factor * static_cast<double>(tokens) * static_cast<double>(topk) /
                      static_cast<double>(ep_size);
  return std::max(std::min(rounded_up(rows), tokens), ep_size);
}

}  // namespace pleiad::plan
