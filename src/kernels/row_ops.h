#pragma once

#include <cstdint>
#include <span>

#include "device/tensor_view.h"
#include "kernels/context.h"

// Ops that work on each token's row alone. Those that reduce or approximate have a `_reference`
// twin of plain loops in double; the fast form differs from it at most in the last bits, and gives
// the same bits for a row whatever the other rows, threads and instruction set.
namespace pleiad::kernels {

struct RmsNormTask {
  const float* x = nullptr;  // [rows, heads * width], x_stride apart
  std::int64_t x_stride = 0;
  std::int64_t rows = 0;
  std::int64_t heads = 1;         // of a row, one after the other, each normalised on its own
  std::int64_t width = 0;         // of a head
  const float* weight = nullptr;  // [width]
  float epsilon = 1e-6F;
  float* y = nullptr;  // [rows, heads * width], y_stride apart, rounded activations; may be x
  std::int64_t y_stride = 0;
};

// y = x / sqrt(mean(x^2) + epsilon) * weight, the statistic in float with sixteen fixed partial
// sums.
void rms_norm(const Context& context, const RmsNormTask& task);
void rms_norm_reference(Compute compute, const RmsNormTask& task);

struct SiluMulTask {
  const float* gate_up = nullptr;  // [rows, 2 * width]: gate in the first half, up in the second
  std::int64_t rows = 0;
  std::int64_t width = 0;
  float* y = nullptr;  // [rows, width], dense, rounded activations
};

// y = silu(gate) * up, with silu(g) = g / (1 + exp(-g)); exp is the same polynomial on every
// instruction set.
void silu_mul(const Context& context, const SiluMulTask& task);
void silu_mul_reference(Compute compute, const SiluMulTask& task);

struct ClampedSwigluTask {
  const float* gate_up = nullptr;  // [rows, 2 * width]: gate in the first half, up in the second
  std::int64_t rows = 0;
  std::int64_t width = 0;
  float limit = 7.0F;
  float* y = nullptr;  // [rows, width], dense, rounded activations
};

// gpt-oss's activation: with gate cut off above the limit and up on both sides, y = gate *
// sigmoid(1.702 * gate) * (up + 1).
void clamped_swiglu(const Context& context, const ClampedSwigluTask& task);
void clamped_swiglu_reference(Compute compute, const ClampedSwigluTask& task);

// residual[i] += x[i] for `count` floats.
void add_rows(const Context& context, const float* x, std::int64_t count, float* residual);

struct EmbeddingTask {
  device::TensorView table;            // [vocabulary, width], F32, BF16 or F16
  std::span<const std::uint32_t> ids;  // [rows]; REQUIRES: below vocabulary
  float* y = nullptr;                  // [rows, width], dense
};

// y[r] = table[ids[r]].
void embed_rows(const Context& context, const EmbeddingTask& task);

}  // namespace pleiad::kernels
