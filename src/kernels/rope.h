#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/context.h"

namespace pleiad::kernels {

// Rotary position embedding (Su et al. 2021) with YaRN's frequencies (Peng et al. 2023).
struct RopeScaling {
  double factor = 1.0;  // 1: plain RoPE
  double original_positions = 0;
  double beta_fast = 32;
  double beta_slow = 1;
  bool truncate = true;  // floor and ceil the correction range, as DeepSeek does
};

// The angle per position of each pair, [width / 2], in double.
std::vector<double> rope_frequencies(std::int64_t width, double theta, const RopeScaling& scaling);

// Which elements form a pair: (2i, 2i+1) as DeepSeek, or (i, i + width/2) as GPT-NeoX.
enum class RopePairs { Interleaved, Halves };

// Fills cos and sin [rows, width / 2] for the rows' positions, times `magnitude`: the floats
// nearest to the true values of position * frequency, at any position below 2^32.
void rope_angles(
    std::span<const std::int64_t> positions,
    std::span<const double> frequencies,
    double magnitude,
    std::span<float> cos_sin  // [rows, 2, width / 2]: cosines, then sines
);

struct RopeTask {
  float* x =
      nullptr;  // [rows, heads, width] with strides below; rotated in place, rounded activations
  std::int64_t row_stride = 0;
  std::int64_t head_stride = 0;
  std::int64_t rows = 0;
  std::int64_t heads = 0;
  std::int64_t width = 0;
  const float* cos_sin = nullptr;  // [rows, 2, width / 2] of rope_angles
  RopePairs pairs = RopePairs::Interleaved;
};

void apply_rope(const Context& context, const RopeTask& task);

}  // namespace pleiad::kernels
