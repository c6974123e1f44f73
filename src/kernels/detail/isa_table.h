#pragma once

#include "kernels/detail/coded_product.h"
#include "kernels/detail/int8_product.h"
#include "kernels/detail/page_attention.h"
#include "kernels/detail/panel_product.h"
#include "kernels/detail/row_math.h"

namespace pleiad::kernels::detail {

// The kernels over the vector operations `Isa`, and for products of integers `IntIsa`, with
// `gemm_bf16` as given.
template <typename Isa, typename IntIsa = Isa>
constexpr IsaKernels table_of(void (*gemm_bf16)(const PanelProduct& product)) {
  return {
      .gemm_f32 = panel_product<Isa, FloatTiles<Isa>>,
      .gemm_bf16 = gemm_bf16,
      .gemm_fp8 = coded_product<Isa, E4m3Codes<Isa>>,
      .gemm_int4 = coded_product<Isa, Int4Codes<Isa>>,
      .gemm_mxfp4 = coded_product<Isa, E2m1Codes<Isa>>,
      .gemm_int8 = int8_product<IntIsa>,
      .sum_of_squares = sum_of_squares<Isa>,
      .scale_row = scale_row<Isa>,
      .silu_mul = silu_mul<Isa>,
      .clamped_swiglu = clamped_swiglu<Isa>,
      .add = add_row<Isa>,
      .exp = exp_row<Isa>,
      .sigmoid = sigmoid_row<Isa>,
      .load_page = load_page<Isa>,
      .page_softmax = page_softmax<Isa>,
      .merge_softmax = merge_softmax<Isa>,
      .combine_row = combine_row<Isa>,
  };
}

}  // namespace pleiad::kernels::detail
