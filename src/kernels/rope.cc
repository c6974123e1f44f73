#include "kernels/rope.h"

#include <algorithm>
#include <cmath>

#include <numbers>

#include "base/check.h"
#include "kernels/detail/row_blocks.h"

namespace pleiad::kernels {
namespace {

// The pair whose wave turns `turns` times within the original context, as a real number.
double correction(double turns, std::int64_t width, double theta, double positions) {
  const double ratio = positions / (turns * 2 * std::numbers::pi);
  return static_cast<double>(width) * std::log(ratio) / (2 * std::log(theta));
}

struct CosSin {
  double cosine = 0;
  double sine = 0;
};

// Of position * frequency. The rounding of that product alone is more than the last bit of a float
// at far positions, so it is taken along: cos(a + e) = cos a - e sin a for so small an e.
CosSin turn(double position, double frequency) {
  const double angle = position * frequency;
  const double rest = std::fma(position, frequency, -angle);
  const double cosine = std::cos(angle);
  const double sine = std::sin(angle);
  return {.cosine = cosine - rest * sine, .sine = sine + rest * cosine};
}

void rotate(const RopeTask& task, Compute compute, const float* cos_sin, float* x) {
  const std::int64_t half = task.width / 2;
  const bool interleaved = task.pairs == RopePairs::Interleaved;
  const std::int64_t step = interleaved ? 2 : 1;
  const std::int64_t apart = interleaved ? 1 : half;
  for (std::int64_t i = 0; i < half; ++i) {
    float& first = x[i * step];
    float& second = x[i * step + apart];
    const float c = cos_sin[i];
    const float s = cos_sin[half + i];
    const float a = first;
    const float b = second;
    first = round_activation(a * c - b * s, compute);
    second = round_activation(b * c + a * s, compute);
  }
}

}  // namespace

std::vector<double> rope_frequencies(std::int64_t width, double theta, const RopeScaling& scaling) {
  PLEIAD_CHECK(width > 0 && width % 2 == 0, "an even width");
  std::vector<double> frequencies(static_cast<std::size_t>(width / 2));
  const auto last = static_cast<double>(width - 1);
  double low = 0;
  double high = 0;
  if (scaling.factor != 1.0) {
    low = correction(scaling.beta_fast, width, theta, scaling.original_positions);
    high = correction(scaling.beta_slow, width, theta, scaling.original_positions);
    if (scaling.truncate) {
      low = std::floor(low);
      high = std::ceil(high);
    }
    low = std::max(low, 0.0);
    high = std::min(high, last);
    if (low == high) high += 0.001;
  }
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    const auto pair = static_cast<double>(i);
    const double frequency = std::pow(theta, -2 * pair / static_cast<double>(width));
    frequencies[i] = frequency;
    if (scaling.factor == 1.0) continue;
    const double ramp = std::clamp((pair - low) / (high - low), 0.0, 1.0);
    frequencies[i] = frequency / scaling.factor * ramp + frequency * (1 - ramp);
  }
  return frequencies;
}

void rope_angles(
    std::span<const std::int64_t> positions,
    std::span<const double> frequencies,
    double magnitude,
    std::span<float> cos_sin
) {
  const std::size_t half = frequencies.size();
  PLEIAD_CHECK(cos_sin.size() >= positions.size() * 2 * half);
  for (std::size_t row = 0; row < positions.size(); ++row) {
    float* out = cos_sin.data() + row * 2 * half;
    for (std::size_t i = 0; i < half; ++i) {
      const auto [cosine, sine] = turn(static_cast<double>(positions[row]), frequencies[i]);
      out[i] = static_cast<float>(cosine * magnitude);
      out[half + i] = static_cast<float>(sine * magnitude);
    }
  }
}

void apply_rope(const Context& context, const RopeTask& task) {
  PLEIAD_CHECK(task.width % 2 == 0, "an even width");
  detail::for_rows(context, task.rows, task.heads * task.width * 4, [&](std::int64_t row) {
    float* x = task.x + row * task.row_stride;
    for (std::int64_t head = 0; head < task.heads; ++head) {
      rotate(task, context.compute, task.cos_sin + row * task.width, x + head * task.head_stride);
    }
  });
}

}  // namespace pleiad::kernels
