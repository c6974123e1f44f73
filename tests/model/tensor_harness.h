#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "base/token.h"
#include "kernels/context.h"

namespace pleiad::model {

struct TensorHarnessOptions {
  std::int32_t parts = 2;
  kernels::Compute compute = kernels::Compute::Float32;
  std::size_t chunk = 64;  // tokens of a step
};

// Logits of every position of `tokens` [tokens, vocabulary], computed in chunks by ranks that share
// the attention, on a thread each. Ends the test program when the folder cannot be loaded.
std::vector<float> logits_of_tensor_parts(
    const std::filesystem::path& folder,
    std::span<const TokenId> tokens,
    const TensorHarnessOptions& options
);

}  // namespace pleiad::model
