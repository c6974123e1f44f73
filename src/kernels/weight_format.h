#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "device/dtype.h"
#include "kernels/context.h"

namespace pleiad::kernels {

// How a weight matrix is stored: in a checkpoint and, but for the order, in memory. Compute says
// how activations are rounded, whatever the format.
//   Plain        floats; in memory they have the type that Compute names
//   Fp8Block     E4M3 codes, one scale for each block of rows x columns (128 x 128 as published)
//   Int8Channel  integers in [-128, 127], one scale per output; activations are quantised to
//                integers too, by row (gemm.h)
//   Int4Group32  integers in [-8, 7], one scale per output and 32 inputs
//   MxFp4        E2M1 codes (0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives), one power of two per
//                output and 32 inputs; -0 counts as 0
// But for Int8Channel a weight is code * scale, rounded to float once: the dequantised weight.
enum class WeightFormat : std::uint8_t { Plain, Fp8Block, Int8Channel, Int4Group32, MxFp4 };

std::string_view to_string(WeightFormat format);

// Quantised inputs lie in 32-bit words, so many of one output to a word, the lowest bits first.
std::int64_t inputs_per_word(WeightFormat format);

// How a panel of 16 outputs lies in memory; all panels of a matrix are alike.
//   Plain      [inputs][16] float, or [inputs / 2][16][2] BF16
//   quantised  [groups][16] scales, padded to 64 bytes, then [words][16] words of codes; a group of
//              `scale_inputs` inputs shares its 16 scales
// Codes in memory: E4M3 and E2M1 as they are, 8-bit integers plus 128, 4-bit ones as two's
// complement. Inputs that only fill a word are zero codes.
struct PanelLayout {
  WeightFormat format = WeightFormat::Plain;
  Compute compute = Compute::Float32;  // of Plain: what the elements are
  std::int64_t inputs = 0;
  std::int64_t scale_inputs = 0;                  // of a quantised format: a multiple of 8
  device::DType scale_type = device::DType::F32;  // F32, BF16 or F8E8M0

  [[nodiscard]] std::int64_t groups() const;
  [[nodiscard]] std::size_t codes_begin() const;  // bytes before the first code
  [[nodiscard]] std::size_t bytes() const;

  friend bool operator==(const PanelLayout&, const PanelLayout&) = default;
};

}  // namespace pleiad::kernels
