#pragma once

#include <cstdint>

#include "kernels/detail/row_math.h"

// The parts of attention that look at one page of 64 tokens (paged_attention.cc puts them
// together), over the vector operations `Isa`.
namespace pleiad::kernels::detail {

inline constexpr std::int64_t kTokens = 64;

// Element `index` of a page.
template <typename Isa, bool kBf16>
float page_element(const std::byte* page, std::int64_t index) {
  float value = 0.0F;
  if constexpr (kBf16) {
    std::uint16_t bits = 0;
    __builtin_memcpy(&bits, page + index * 2, sizeof(bits));
    value = __builtin_bit_cast(float, static_cast<std::uint32_t>(bits) << 16U);
  } else {
    __builtin_memcpy(&value, page + index * 4, sizeof(value));
  }
  return value;
}

// The keys of 16 tokens, one panel: [key_width][16 tokens].
template <typename Isa, bool kBf16>
void load_keys(const PagePanels& panels, std::int64_t group) {
  constexpr std::int64_t kElement = kBf16 ? 2 : 4;
  const std::byte* lines =
      panels.page + (group * kLanes * panels.line + panels.key_begin) * kElement;
  float* keys = panels.keys + group * kLanes * panels.key_width;
  const std::int64_t whole = panels.key_width / kLanes * kLanes;
  for (std::int64_t d = 0; d < whole; d += kLanes) {
    if constexpr (kBf16) {
      Isa::transpose_bf16(lines + d * kElement, panels.line, keys + d * kLanes);
    } else {
      Isa::transpose(reinterpret_cast<const float*>(lines) + d, panels.line, keys + d * kLanes);
    }
  }
  for (std::int64_t t = 0; t < kLanes; ++t) {
    for (std::int64_t d = whole; d < panels.key_width; ++d) {
      keys[d * kLanes + t] = page_element<Isa, kBf16>(lines, t * panels.line + d);
    }
  }
}

// One panel of values: 16 elements from `first` on of every token.
template <typename Isa, bool kBf16>
void load_values(const PagePanels& panels, std::int64_t first) {
  constexpr std::int64_t kElement = kBf16 ? 2 : 4;
  for (std::int64_t t = 0; t < panels.tokens; ++t) {
    const std::byte* line = panels.page + (t * panels.line + panels.value_begin + first) * kElement;
    float* out = panels.values + first * kTokens + t * kLanes;
    for (std::int64_t lane = 0; lane < kLanes; lane += Isa::kWidth) {
      if constexpr (kBf16) {
        Isa::store(out + lane, Isa::load_bf16(line + lane * kElement));
      } else {
        Isa::store(out + lane, Isa::load(reinterpret_cast<const float*>(line) + lane));
      }
    }
  }
}

// The same for fewer than 16 elements, padded with zeros.
template <typename Isa, bool kBf16>
void load_last_values(const PagePanels& panels, std::int64_t first) {
  for (std::int64_t t = 0; t < panels.tokens; ++t) {
    float* out = panels.values + first * kTokens + t * kLanes;
    for (std::int64_t lane = 0; lane < kLanes; ++lane) {
      const std::int64_t at = first + lane;
      const std::int64_t index = t * panels.line + panels.value_begin + at;
      out[lane] = at < panels.value_width ? page_element<Isa, kBf16>(panels.page, index) : 0.0F;
    }
  }
}

template <typename Isa, bool kBf16>
void load_page_as(const PagePanels& panels) {
  for (std::int64_t group = 0; group * kLanes < panels.tokens; ++group) {
    load_keys<Isa, kBf16>(panels, group);
  }
  const std::int64_t whole = panels.value_width / kLanes * kLanes;
  for (std::int64_t first = 0; first < whole; first += kLanes) {
    load_values<Isa, kBf16>(panels, first);
  }
  if (whole < panels.value_width) load_last_values<Isa, kBf16>(panels, whole);
}

template <typename Isa>
void load_page(const PagePanels& panels) {
  if (panels.bf16) {
    load_page_as<Isa, true>(panels);
  } else {
    load_page_as<Isa, false>(panels);
  }
}

// e^x for one number, by the lanes' own arithmetic.
template <typename Isa>
float exp_one(float x) {
  alignas(64) float lanes[Isa::kWidth];
  Isa::store(lanes, exp_lanes<Isa>(Isa::broadcast(x)));
  return lanes[0];
}

template <typename Isa>
void scale_lanes(float factor, std::int64_t count, float* y) {
  const auto lanes = Isa::broadcast(factor);
  for (std::int64_t i = 0; i < count; i += Isa::kWidth) {
    Isa::store(y + i, Isa::mul(Isa::load(y + i), lanes));
  }
}

// Scales one pair's scores in place; their maximum. Tokens past `visible` become -infinity.
template <typename Isa>
float scale_scores(float* scores, std::int64_t visible, float scale) {
  const auto factor = Isa::broadcast(scale);
  const float none = -__builtin_inff();
  typename Isa::Reg top[Isa::kRegs];
  for (auto& lanes : top) {
    lanes = Isa::broadcast(none);
  }
  for (std::int64_t t = 0; t < visible; t += kLanes) {
    for (int j = 0; j < Isa::kRegs; ++j) {
      const std::int64_t at = t + j * Isa::kWidth;
      // The factor may be negative or the product NaN: mask after multiplying.
      auto lanes = Isa::mul(Isa::load(scores + at), factor);
      Isa::store(scores + at, lanes);
      lanes = Isa::load_first(scores + at, visible - at, none);
      Isa::store(scores + at, lanes);
      top[j] = Isa::max(lanes, top[j]);
    }
  }
  return Isa::reduce_max(top);
}

template <typename Isa>
void page_softmax(const PageScores& page, const SoftmaxState& state) {
  for (std::int64_t pair = 0; pair < page.pairs; ++pair) {
    float* scores = page.scores + pair * kTokens;
    const float top = scale_scores<Isa>(scores, page.visible, page.scale);
    const float before = state.maximum[pair];
    const float maximum = top > before ? top : before;
    const auto shift = Isa::broadcast(maximum);
    typename Isa::Reg sums[Isa::kRegs];
    for (auto& lanes : sums) {
      lanes = Isa::zero();
    }
    for (std::int64_t t = 0; t < page.visible; t += kLanes) {
      for (int j = 0; j < Isa::kRegs; ++j) {
        const std::int64_t at = t + j * Isa::kWidth;
        const auto p = exp_lanes<Isa>(Isa::sub(Isa::load(scores + at), shift));
        Isa::store(scores + at, p);
        sums[j] = Isa::add(sums[j], p);
      }
    }
    const float total = Isa::reduce_add(sums);
    if (maximum != before) {
      const float shrink = exp_one<Isa>(before - maximum);
      state.total[pair] = state.total[pair] * shrink;
      scale_lanes<Isa>(shrink, state.width, state.sum + pair * state.width);
      state.maximum[pair] = maximum;
    }
    state.total[pair] = state.total[pair] + total;
  }
}

template <typename Isa>
void merge_softmax(const SoftmaxState& into, const SoftmaxState& from, std::int64_t pairs) {
  for (std::int64_t pair = 0; pair < pairs; ++pair) {
    const float a = into.maximum[pair];
    const float b = from.maximum[pair];
    if (b == -__builtin_inff()) continue;
    if (a == -__builtin_inff()) {
      into.maximum[pair] = b;
      into.total[pair] = from.total[pair];
      for (std::int64_t i = 0; i < into.width; i += Isa::kWidth) {
        Isa::store(into.sum + pair * into.width + i, Isa::load(from.sum + pair * into.width + i));
      }
      continue;
    }
    const float maximum = b > a ? b : a;
    const float keep = exp_one<Isa>(a - maximum);
    const float take = exp_one<Isa>(b - maximum);
    into.maximum[pair] = maximum;
    into.total[pair] = into.total[pair] * keep + from.total[pair] * take;
    float* y = into.sum + pair * into.width;
    const float* x = from.sum + pair * from.width;
    const auto keep_lanes = Isa::broadcast(keep);
    const auto take_lanes = Isa::broadcast(take);
    for (std::int64_t i = 0; i < into.width; i += Isa::kWidth) {
      const auto kept = Isa::mul(Isa::load(y + i), keep_lanes);
      Isa::store(y + i, Isa::fma(Isa::load(x + i), take_lanes, kept));
    }
  }
}

}  // namespace pleiad::kernels::detail
