#pragma once

#include <filesystem>

#include "base/json.h"
#include "base/result.h"

namespace pleiad::model {

// The config.json of a model folder. Where a weight description stands beside it
// (quant_model_description.json, or with a scheme before the ending), as Ascend's tools for MindIE
// write it, that becomes the quantization_config: {"quant_method": "ascend", "description": {...}},
// which parse_quantization_config() reads. Fails naming the file: no folder, no or no readable JSON
// object, two descriptions, or one beside a quantization_config of another method.
Result<Json> read_model_config(const std::filesystem::path& folder);

}  // namespace pleiad::model
