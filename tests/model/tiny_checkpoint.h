#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>

#include "base/json.h"

namespace pleiad::model::reference {

struct TinyOptions {
  // F32, BF16 or F16, of everything but the bias of the expert choice; or MXFP4, of GPT-OSS's
  // experts, the rest being BF16.
  std::string_view dtype = "F32";
  std::uint64_t seed = 1;
  double score_bias = 0;  // mean of the bias of the expert choice
  double sink = 0;        // mean of attention sinks
};

// Writes a model folder with random weights for `config`: config.json, and model.safetensors with
// the tensor names that its family publishes. `folder` must exist.
void write_tiny_checkpoint(
    const std::filesystem::path& folder,
    const Json& config,
    const TinyOptions& options
);

}  // namespace pleiad::model::reference
