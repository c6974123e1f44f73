#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "device/tensor_view.h"
#include "weights/safetensors_writer.h"

namespace pleiad::weights {

// How a matrix of weights is stored in fewer bits. In all, weight = code * scale, and codes are the
// nearest, ties to even.
enum class QuantScheme : std::uint8_t {
  // NAME.weight I8 and NAME.weight_scale F32 [outputs, 1]: codes of magnitude up to 127, whose
  // inputs are meant to be quantised too, by token (compressed-tensors' int-quantized).
  W8A8,
  // NAME.weight F8_E4M3 and NAME.weight_scale_inv F32, a scale for each block of 128 x 128
  // (DeepSeek-V3's).
  Fp8Block,
  // NAME.weight_packed I32, eight codes a word, lowest bits first, code - 8; NAME.weight_scale BF16
  // [outputs, inputs / 32]; NAME.weight_shape I64 [2] (compressed-tensors' pack-quantized).
  Int4Group32,
  // For experts stacked in one tensor NAME [experts, inputs, outputs]: NAME_blocks U8 [experts,
  // outputs, inputs / 32, 16], two E2M1 codes a byte, lower half first, and NAME_scales U8
  // [experts, outputs, inputs / 32], powers of two less 127 (gpt-oss's, OCP MX 1.0).
  MxFp4,
};

std::string_view to_string(QuantScheme scheme);  // "w8a8"
std::optional<QuantScheme> parse_quant_scheme(std::string_view name);

// Whether the scheme is one for experts stacked in one tensor, and not for matrices alone.
bool is_for_stacks(QuantScheme scheme);

// Whether a tensor of this shape can be stored so: a matrix, or, for MxFp4, a stack of them;
// Int4Group32 and MxFp4 want inputs in groups of 32, W8A8 in words of 8.
bool can_quantize(const device::Shape& shape, QuantScheme scheme);

// The tensors that take the place of `name` ("….weight", or any name of a stack) of `shape`.
std::vector<TensorPlan>
plan_quantized(std::string_view name, const device::Shape& shape, QuantScheme scheme);

// Their bytes, in the same order; of a stack those of one of its matrices. `matrix` is [outputs,
// inputs], or [inputs, outputs] of a stack, F32, BF16 or F16. Fails with InvalidInput when a weight
// is not finite, saying where.
Result<std::vector<std::vector<std::byte>>>
quantize_matrix(const device::TensorView& matrix, QuantScheme scheme);

}  // namespace pleiad::weights
