#include "ep/hash_routing.h"

#include <algorithm>

namespace pleiad::ep {
namespace {

// SplitMix64 (Steele, Lea, Flood 2014): neighbouring inputs give unrelated outputs.
std::uint64_t mix(std::uint64_t x) {
  x += 0x9E3779B97F4A7C15U;
  x = (x ^ (x >> 30U)) * 0xBF58476D1CE4E5B9U;
  x = (x ^ (x >> 27U)) * 0x94D049BB133111EBU;
  return x ^ (x >> 31U);
}

}  // namespace

void hash_experts(
    std::span<const TokenId> tokens,
    std::int64_t layer,
    const kernels::GateOptions& options,
    std::int32_t* ids,
    float* weights
) {
  const auto topk = static_cast<std::size_t>(options.topk);
  const float weight = options.scale / static_cast<float>(options.topk);
  for (std::size_t row = 0; row < tokens.size(); ++row) {
    const std::span chosen(ids + row * topk, topk);
    std::uint64_t state = mix((static_cast<std::uint64_t>(layer) << 32U) | tokens[row]);
    for (std::size_t k = 0; k < topk;) {
      state = mix(state);
      const auto expert =
          static_cast<std::int32_t>(state % static_cast<std::uint64_t>(options.experts));
      const auto before = chosen.first(k);
      if (std::ranges::find(before, expert) == before.end()) chosen[k++] = expert;
    }
    std::ranges::sort(chosen);
    std::fill_n(weights + row * topk, topk, weight);
  }
}

}  // namespace pleiad::ep
