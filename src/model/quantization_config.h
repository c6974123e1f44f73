#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "kernels/weight_format.h"

namespace pleiad::model {

// What a checkpoint says about how its linear layers are stored. Which tensors really are, their
// dtypes say: what the checkpoint left alone is loaded as it is.
struct QuantizationConfig {
  kernels::WeightFormat format = kernels::WeightFormat::Plain;  // Plain: nothing is said
  std::int64_t scale_rows = 128;                                // of Fp8Block
  std::int64_t scale_columns = 128;
  // Names of the tensors that are stored in the format, ascending, where the checkpoint lists them.
  std::optional<std::vector<std::string>> coded = std::nullopt;
};

// Reads `quantization_config` of a config.json (or of its text_config); Plain when there is none.
//   quant_method "fp8"                 fmt e4m3, weight_block_size, dynamic activations; scales
//                                      float or ue8m0
//   quant_method "compressed-tensors"  pack-quantized: symmetric 4-bit integers in groups of 32;
//                                      int-quantized: symmetric 8-bit integers by channel, dynamic
//                                      8-bit activations by token
//   quant_method "mxfp4"
//   quant_method "ascend"              as weight_description.h says
// FP8 activations are not quantised: products take them as they are. Anything else is refused by
// name: Unsupported, with what is supported.
Result<QuantizationConfig> parse_quantization_config(const Json& config);

}  // namespace pleiad::model
