#pragma once

#include <cstddef>
#include <cstdint>

#include "device/cuda/stream.h"

// Drawing tokens from logits where they lie, by the rules of engine/sampler.h.
namespace pleiad::kernels::cuda {

// How a row's token is drawn. The rules' order: temperature, min_p, top_k, top_p, draw.
struct DrawRule {
  float temperature = 0.0F;  // 0: the most likely token
  float top_p = 1.0F;
  float min_p = 0.0F;
  std::int32_t top_k = 0;     // 0: all
  double uniform = 0.0;       // [0, 1), of the draw
  std::int32_t wanted = 0;    // 0: the row is left out
  std::int32_t reserved = 0;  // keeps arrays of rules free of gaps
};

// What came of it.
struct DrawnToken {
  std::int32_t token =
      -1;                 // -1: the rule keeps more tokens than a block can order, or was left out
  float logit = 0.0F;     // of the token
  double log_mass = 0.0;  // logarithm of the sum of exponentials of all the row's logits
};

struct DrawTokensTask {
  const float* logits = nullptr;  // [rows, vocabulary]; NaN counts as minus infinity
  std::int64_t rows = 0;
  std::int64_t vocabulary = 0;
  const DrawRule* rules = nullptr;  // [rows], in GPU memory
  DrawnToken* drawn = nullptr;      // [rows], likewise
  void* scratch = nullptr;          // draw_scratch_bytes()
};

// Tokens that rules other than temperature may keep of a row.
inline constexpr std::int64_t kDrawCandidatesMax = 2048;

std::size_t draw_scratch_bytes(std::int64_t rows, std::int64_t vocabulary);

// Ties go to the lower id. A draw over all tokens runs in id order, one over kept tokens from the
// most likely on. What a row gets depends on its logits and its rule alone.
void draw_tokens(device::cuda::Stream& stream, const DrawTokensTask& task);

}  // namespace pleiad::kernels::cuda
