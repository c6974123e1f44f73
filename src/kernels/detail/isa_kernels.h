#pragma once

#include <cstddef>
#include <cstdint>

#include "device/cpu_isa.h"

// The inner loops that exist once per instruction set. Each is written once as a template over a
// small set of vector operations (lanes_*.h) and compiled once per set; every sum runs in an order
// that does not depend on the set, so all sets give the same bits (but for products of BF16 pairs,
// see IsaKernels::gemm_bf16). Files compiled for a set hand out nothing but this table, and
// construct none of the structs below: an inline function they shared with other files would be
// merged by the linker with a copy that other processors cannot run.
namespace pleiad::kernels::detail {

// Lanes of a panel: outputs of a packed matrix, tokens of a page, value elements of a page.
inline constexpr std::int64_t kLanes = 16;

// y[r, o] (+)= sum over i of x[r, i] * W[o, i] for a block of rows and consecutive panels.
struct PanelProduct {
  const float* x = nullptr;
  std::int64_t x_stride = 0;
  const std::int32_t* x_rows = nullptr;  // line of x for each row; null: the row itself
  std::int64_t rows = 0;
  const std::byte* weight = nullptr;  // first panel (PanelLayout); of floats: the first input in it
  std::int64_t panel_step = 0;        // bytes from one panel to the next
  std::int64_t inputs = 0;
  std::int64_t outputs = 0;  // of these panels; only the last panel may be partly used
  float* y = nullptr;
  std::int64_t y_stride = 0;
  const float* bias = nullptr;  // [outputs] that sums start from; null: zero
  bool accumulate = false;      // start from y instead
  bool round_output = false;    // round y to BF16

  // Of quantised weights.
  std::int64_t first_input = 0;   // where the inputs begin in each panel: a multiple of 8
  std::int64_t scale_inputs = 0;  // a multiple of 8
  std::int64_t codes_begin = 0;
  bool bf16_scales = false;  // of Int4Group32: BF16 rather than float
};

// y = x * factor * weight over one row.
struct ScaledRow {
  const float* x = nullptr;
  const float* weight = nullptr;  // null: left out
  float factor = 1.0F;
  std::int64_t count = 0;
  float* y = nullptr;
  bool round = false;
};

struct GatedRow {
  const float* gate = nullptr;
  const float* up = nullptr;
  std::int64_t count = 0;
  float* y = nullptr;
  bool round = false;
};

// One head of one page of the cache, turned into panels of floats.
struct PagePanels {
  const std::byte* page = nullptr;  // [64][line] floats or BF16
  bool bf16 = false;
  std::int64_t line = 0;
  std::int64_t key_begin = 0;  // of the head's key within the line
  std::int64_t key_width = 0;
  std::int64_t value_begin = 0;
  std::int64_t value_width = 0;
  std::int64_t tokens = 0;  // leading tokens wanted
  float* keys = nullptr;    // [tokens / 16, rounded up][key_width][16 tokens]
  float* values = nullptr;  // [value_width / 16, rounded up][64 tokens][16], padded with zeros
};

// Running softmax of (row, head) pairs: the weighted sum so far is sum_p e^(s - maximum) v. Where
// the maximum is -infinity no token was seen yet, and the rest has no meaning.
struct SoftmaxState {
  float* maximum = nullptr;  // [pairs]
  float* total = nullptr;    // [pairs]
  float* sum = nullptr;      // [pairs, width]
  std::int64_t width = 0;    // value elements, rounded up to kLanes
};

struct PageScores {
  float* scores =
      nullptr;  // [pairs, 64]: raw products in, probabilities e^(scale * s - maximum) out
  std::int64_t pairs = 0;
  std::int64_t visible = 0;  // tokens of the page that these pairs see
  float scale = 1.0F;
};

// One row's weighted sum over the tree of expert ids (tree_combine.h).
struct CombineRow {
  const float* const* leaves = nullptr;  // [count] expert outputs, [hidden] each
  const float* weights = nullptr;        // [count]; null: the leaves are weighted already
  const std::uint8_t* into = nullptr;    // [count - 1] merges: slot into[m] += slot from[m]
  const std::uint8_t* from = nullptr;
  std::int64_t count = 0;
  std::int64_t hidden = 0;
  const float* shared = nullptr;  // [hidden] or null
  float* residual = nullptr;      // [hidden], added to; or
  float* sum = nullptr;           // [hidden], written
  bool round = false;
};

// Most leaves that CombineRow takes.
inline constexpr std::int64_t kCombineLeavesMax = 64;

struct IsaKernels {
  // Products with float weights; chains of fused multiply-adds over i, ascending.
  void (*gemm_f32)(const PanelProduct& product);
  // The same with BF16 weights. Avx512Bf16 takes pairs: a chain of vdpbf16ps, which rounds between
  // the two halves of a pair by its own rule and reads and writes denormals as zero.
  void (*gemm_bf16)(const PanelProduct& product);
  // Chains like gemm_f32's, with weights code * scale rounded to float.
  void (*gemm_fp8)(const PanelProduct& product);
  void (*gemm_int4)(const PanelProduct& product);
  void (*gemm_mxfp4)(const PanelProduct& product);
  // Quantises x by row: s = amax / 127, q = x / s rounded to even; then y = sum of q * code, an
  // exact integer, times s * scale. Rows with amax below 2^-100 count as zeros; rows that are not
  // finite give NaN. REQUIRES: no accumulate, at most kRowBlock rows, at most 2^16 inputs.
  void (*gemm_int8)(const PanelProduct& product);
  // Sum of x^2 in 16 partial sums (lane i % 16), added up as a tree.
  float (*sum_of_squares)(const float* x, std::int64_t count);
  void (*scale_row)(const ScaledRow& row);
  void (*silu_mul)(const GatedRow& row);
  void (*clamped_swiglu)(const GatedRow& row, float limit);
  void (*add)(const float* x, std::int64_t count, float* y);
  // y = exp(x): at most 2 ulp off, 0 below -87.33 (no denormals), infinity above 88.72, NaN stays.
  void (*exp)(const float* x, std::int64_t count, float* y);
  void (*sigmoid)(const float* x, std::int64_t count, float* y);
  void (*load_page)(const PagePanels& panels);
  // One page of running softmax; `state.sum` is rescaled to the new maximum, not added to.
  void (*page_softmax)(const PageScores& page, const SoftmaxState& state);
  // into = the softmax over the tokens of both; `pairs` of them.
  void (*merge_softmax)(const SoftmaxState& into, const SoftmaxState& from, std::int64_t pairs);
  void (*combine_row)(const CombineRow& row);
};

// Rows of x that one unit of work should take: no more than isa_avx512_bf16.cc and int8_product.h
// hold.
inline constexpr std::int64_t kRowBlock = 48;
// Consecutive panels that a single row is multiplied with at a time, on the widest set.
inline constexpr std::int64_t kPanelGroup = 8;

const IsaKernels& portable_kernels();
#if defined(__x86_64__)
const IsaKernels& avx2_kernels();
const IsaKernels& avx512_kernels();
const IsaKernels& avx512_bf16_kernels();
#endif

// The table of `isa`. REQUIRES: this processor runs `isa`.
const IsaKernels& kernels_of(device::CpuIsa isa);

}  // namespace pleiad::kernels::detail
