#pragma once

#include <cstdint>

#include "base/json.h"
#include "base/result.h"
#include "model/quantization_config.h"

namespace pleiad::model {

// Reads what Ascend's tools say of each tensor: {"NAME": "TYPE", ...} and a few members about the
// whole. Computed are FLOAT (as it is) and W8A8_DYNAMIC (8-bit integers by channel, activations
// quantised by token: NAME I8, NAME_scale and, where it is, NAME_offset, which must be zero).
// Tensors of layers from `layers` on and those outside the decoder may be of any type. Fails with
// Unsupported, naming the tensor or member: another type (static activations, other widths), or
// quantised caches, attention, communication or rotations.
Result<QuantizationConfig> parse_weight_description(const Json& description, std::int64_t layers);

}  // namespace pleiad::model
